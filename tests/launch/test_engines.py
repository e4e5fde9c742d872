"""`launch/sky.yaml` and `launch/jobset.yaml` are what SkyPilot and JobSet take them for, and fit train.py."""

import itertools
import math
import re
from pathlib import Path

import pytest

from launch import tpu

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'
MISTAKE_STATUS = 2  # of train.py: `errors.USER_ERROR_STATUS`
BUCKET = {'BUCKET': 'bucket', 'IMAGE': 'docker.pkg.dev/project/images/mobilenets_jax@sha256:0'}


def yaml_documents(name: str) -> list[dict]:
    """The documents of a file, as `envsubst` would fill them in."""
    yaml = pytest.importorskip('yaml')
    text = re.sub(r'\$\{(\w+)\}', lambda found: BUCKET[found[1]], (LAUNCH / name).read_text())
    return list(yaml.safe_load_all(text))


@pytest.fixture
def job_set():
    account, job_set = yaml_documents('jobset.yaml')
    assert account['kind'] == 'ServiceAccount' and job_set['kind'] == 'JobSet'
    pod = job_set['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']
    assert pod['serviceAccountName'] == account['metadata']['name']
    return job_set


def job_of(job_set: dict) -> dict:
    return job_set['spec']['replicatedJobs'][0]['template']['spec']


def pod_of(job_set: dict) -> dict:
    return job_of(job_set)['template']['spec']


def train_flags(words: list[str]) -> dict[str, str]:
    return dict(word.removeprefix('--').partition('=')[::2] for word in words)


def check_train_flags(flags: dict[str, str]) -> None:
    assert flags == {
        'multihost': '',
        'preempted_status': str(tpu.PREEMPTED_STATUS),
        'config': 'configs/imagenet/mobilenet_v3_large.py',
        'workdir': 'gs://bucket/v3_large',
        'config.data.dir': 'gs://bucket/tfds',
    }
    assert (ROOT / flags['config']).exists()


def test_job_set_has_the_schema_of_jobset(job_set):
    models = pytest.importorskip('kubeflow_trainer_api.models')
    parsed = models.JobsetV1alpha2JobSet.from_dict(job_set)
    assert parsed.to_dict() == job_set  # what the schema does not know would be lost


def test_a_field_that_jobset_does_not_know_is_noticed(job_set):
    models = pytest.importorskip('kubeflow_trainer_api.models')
    pod_of(job_set)['terminationGracePeriod'] = 15
    assert models.JobsetV1alpha2JobSet.from_dict(job_set).to_dict() != job_set


def test_status_of_a_mistake_is_that_of_train():
    assert pytest.importorskip('mobilenets_jax.errors').USER_ERROR_STATUS == MISTAKE_STATUS


def test_hosts_and_chips_make_the_slice(job_set):
    job, pod = job_of(job_set), pod_of(job_set)
    chips = math.prod(map(int, pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split('x')))
    limits = pod['containers'][0]['resources']['limits']
    assert job['parallelism'] * limits['google.com/tpu'] == chips == 16
    assert job['parallelism'] == job['completions']


RESTART = 'RestartJobSetAndIgnoreMaxRestarts'


# As Kubernetes words why a job failed.
@pytest.mark.parametrize(
    ('message', 'action'),
    [
        ('Container train for pod a/b failed with exit code 2 matching FailJob rule at index 0', 'FailJobSet'),
        ('Container train for pod a/b failed with exit code 75 matching FailJob rule at index 1', RESTART),
        ('Pod a/b has condition DisruptionTarget matching FailJob rule at index 2', RESTART),
    ],
)
def test_job_set_restarts_after_preemptions_and_not_after_mistakes(message, action, job_set):
    rules = job_set['spec']['failurePolicy']['rules']
    taken = next(
        rule['action']
        for rule in rules
        if any(re.search(pattern, message) for pattern in rule.get('onJobFailureMessagePatterns', ['']))
    )
    assert taken == action


def test_job_fails_as_a_whole_and_says_why(job_set):
    job = job_of(job_set)
    codes = [rule.get('onExitCodes', {}).get('values') for rule in job['podFailurePolicy']['rules']]
    assert codes == [[MISTAKE_STATUS], [tpu.PREEMPTED_STATUS], None]
    assert job['backoffLimit'] == 0 and 0 < job_set['spec']['failurePolicy']['maxRestarts'] < 10


def test_pod_is_a_user_on_spot_nodes_with_an_image_by_digest(job_set):
    pod = pod_of(job_set)
    (container,) = pod['containers']
    assert pod['securityContext']['runAsNonRoot'] and pod['terminationGracePeriodSeconds'] == 15
    assert pod['nodeSelector']['cloud.google.com/gke-spot'] == 'true'
    assert container['env'] == [{'name': 'JAX_COMPILATION_CACHE_DIR', 'value': 'gs://bucket/compiled'}]
    assert '@sha256:' in container['image']
    check_train_flags(train_flags(container['args']))


def test_image_has_its_user_and_no_test_tools():
    lines = (LAUNCH / 'Dockerfile').read_text().splitlines()
    assert lines[-2:] == ['USER 1000', 'ENTRYPOINT ["python", "train.py"]']
    assert "sed '/^# Tests and lint/,$d' requirements.txt" in ' '.join(lines)
    requirements = (ROOT / 'requirements.txt').read_text().splitlines()
    names = [re.split('[>=<]', line)[0] for line in requirements]
    left_out = list(itertools.dropwhile(lambda name: not name.startswith('# Tests and lint'), names))
    assert left_out[1:] == ['pytest', 'pytest-xdist', 'ruff', 'mypy', 'nbclient', 'ipykernel']


@pytest.fixture
def sky_task(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))  # where it keeps notes
    sky = pytest.importorskip('sky')
    (config,) = yaml_documents('sky.yaml')
    return lambda **values: sky.Task.from_yaml_config(config, env_overrides=list(values.items()))


def test_sky_takes_the_task(sky_task):
    task = sky_task(BUCKET='bucket')
    (resources,) = task.resources
    assert resources.use_spot and resources.accelerators == {'tpu-v3-32': 1}
    assert resources.accelerator_args == {'tpu_vm': True, 'runtime_version': tpu.RUNTIMES['v3']}
    assert resources.job_recovery == {
        'strategy': 'FAILOVER', 'recover_on_exit_codes': [tpu.PREEMPTED_STATUS], 'max_restarts_on_errors': 2
    }  # fmt: skip


def test_sky_asks_for_the_bucket(sky_task):
    with pytest.raises(ValueError, match='BUCKET'):
        sky_task()


def test_command_of_the_sky_task_is_one_of_train():
    (config,) = yaml_documents('sky.yaml')
    values = {**config['envs'], **BUCKET}
    run = re.sub(r'"?\$(\w+)', lambda found: values[found[1]], config['run']).replace('"', '').replace('\\\n', '')
    words = re.search(r'train\.py (.*)', run)[1].split()
    check_train_flags(train_flags(words))
