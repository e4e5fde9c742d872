"""A workdir in a bucket, with the clients of a real one: trained, killed in a save, gone on and evaluated."""

import json
import signal
import threading

from launching import read_rows, read_summary

from mobilenets_jax.training.progress import TIMING_METRICS

WORKDIR = 'gs://bucket/run'
HASHES = ('step', 'params_sha256', 'ema_sha256', 'test_top1', 'test_loss')


def kill_at(bucket, name, process):
    """Kills a process when it has written the object `name`, before it hears so."""
    written, killed = threading.Event(), threading.Event()

    def changed(other):
        if other == name and not written.is_set():
            written.set()
            killed.wait()

    bucket.changed = changed
    assert written.wait(300), f'{name} was never written'
    process.send(signal.SIGKILL)
    killed.set()
    return process.end()


def test_a_run_killed_in_the_middle_of_a_save_goes_on_to_the_same_end(bucket, launcher, straight_run):
    straight = straight_run()
    ended = kill_at(bucket, 'run/checkpoints/8/state/_METADATA', launcher.train(WORKDIR))
    assert ended.status == -signal.SIGKILL
    assert bucket.names('run/checkpoints/8/') and 'run/checkpoints/8/manifest.json' not in bucket.names()

    programs = 'gs://bucket/programs'
    ended = launcher.train(WORKDIR, JAX_COMPILATION_CACHE_DIR=programs).end()
    assert ended.status == 0, ended
    assert 'going on from the checkpoint of step 4' in ended.output
    assert [line for line in ended.errors if 'GOOGLE_AUTH_TOKEN_FOR_TESTING' not in line] == []
    summary = json.loads(bucket.read('run/summary.json'))
    assert [summary[name] for name in HASHES] == [read_summary(straight)[name] for name in HASHES]
    rows = [json.loads(line) for line in bucket.read('run/metrics.jsonl').splitlines()]
    rows = [{name: value for name, value in row.items() if name not in TIMING_METRICS} for row in rows]
    assert rows == read_rows(straight)
    assert {name.split('/')[2] for name in bucket.names('run/checkpoints/')} == {'8', '12'}
    assert bucket.read('run/curves.png').startswith(b'\x89PNG')
    assert b'train/loss' in b''.join(map(bucket.read, bucket.names('run/tensorboard/')))
    assert bucket.names('programs/') and 'run/run.lock' not in bucket.names()

    ended = launcher.run('eval.py', f'--workdir={WORKDIR}')
    assert ended.status == 0, ended
    result = json.loads(ended.output[-1])
    assert (result['step'], result['top1'], result['loss']) == (12, summary['test_top1'], summary['test_loss'])


def test_a_bucket_that_is_not_there_is_one_line(bucket, launcher):
    ended = launcher.train('gs://no-bucket/run').end()
    assert (ended.status, ended.output) == (2, [])
    assert ended.errors[-1] == "error: workdir='gs://no-bucket/run' cannot be written: there is no such bucket."
