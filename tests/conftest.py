"""Eight fake CPU devices and quick compilation for every test: set before JAX is imported anywhere."""

import os

import quick_compile

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = ' '.join(
    [os.environ.get('XLA_FLAGS', ''), '--xla_force_host_platform_device_count=8', quick_compile.FLAGS]
)
os.environ['EPATH_USE_TF'] = 'false'  # as the commands have it, see `mobilenets_jax.buckets`
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import fake_bucket  # noqa: E402 - the clients read the environment when they are imported
import pytest  # noqa: E402

from mobilenets_jax import buckets  # noqa: E402


@pytest.fixture(scope='session')
def _bucket_of_this_process():
    """One for all tests: the clients remember where it is."""
    with fake_bucket.FakeBucket() as bucket:
        os.environ.update(bucket.environment)
        buckets.use_one_client()
        yield bucket


@pytest.fixture
def bucket(_bucket_of_this_process):
    """An empty fake bucket, gs://bucket, for this process and those that it starts."""
    bucket = _bucket_of_this_process
    bucket.objects, bucket.changed = {}, lambda name: None
    return bucket
