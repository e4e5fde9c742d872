"""The Kubernetes example and the Dockerfile fit each other, the slice and train.py."""

import math
from pathlib import Path

import pytest

from launch import tpu
from mobilenets_jax.cli import USER_ERROR_STATUS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def job_set():
    yaml = pytest.importorskip('yaml')
    return yaml.safe_load((ROOT / 'launch' / 'jobset.yaml').read_text())


def test_hosts_and_chips_make_the_slice(job_set):
    job = job_set['spec']['replicatedJobs'][0]['template']['spec']
    pod = job['template']['spec']
    chips = math.prod(map(int, pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split('x')))
    limits = pod['containers'][0]['resources']['limits']
    assert job['parallelism'] * limits['google.com/tpu'] == chips == 16
    assert job['parallelism'] == job['completions']


def test_preempted_runs_are_started_again_and_mistakes_are_not(job_set):
    spec = job_set['spec']
    job = spec['replicatedJobs'][0]['template']['spec']
    assert f'--preempted_status={tpu.PREEMPTED_STATUS}' in job['template']['spec']['containers'][0]['args']
    (rule,) = job['podFailurePolicy']['rules']
    assert (rule['action'], rule['onExitCodes']['values']) == ('FailJob', [USER_ERROR_STATUS])
    assert spec['failurePolicy']['rules'][0]['action'] == 'FailJobSet'
    assert job['backoffLimit'] == 0 and spec['failurePolicy']['maxRestarts'] > 0


def test_command_of_the_example_is_one_of_train(job_set):
    container = job_set['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']['containers'][0]
    given = dict(argument.removeprefix('--').partition('=')[::2] for argument in container['args'])
    assert (ROOT / given['config']).exists()
    assert set(given) == {'multihost', 'preempted_status', 'config', 'workdir', 'config.data.dir'}
    assert 'ENTRYPOINT ["python", "train.py"]' in (ROOT / 'launch' / 'Dockerfile').read_text()
