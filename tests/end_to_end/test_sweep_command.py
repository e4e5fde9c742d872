"""A sweep that is stopped goes on with the run that it was at; one that fails leaves the others alone."""

import signal

from launching import read_summary

FIELDS = ('model.width_multiplier=0.25', 'batch_size=32', 'num_steps=300', 'log.every_steps=1', 'ema.decay=0.0')


def test_a_stopped_sweep_goes_on(launcher, tmp_path):
    flags = [*(f'--config.{field}' for field in FIELDS), '--set=model.name=mobilenet_v1,no_network']
    command = ['-m', 'mobilenets_jax', 'sweep', '--config=configs/digits.py', f'--workdir={tmp_path}', *flags]
    process = launcher.start(*command)
    assert process.read('step 1/300')
    process.send(signal.SIGTERM)
    ended = process.end()
    assert ended.status == 0 and ended.output[-1] == 'stopped by SIGTERM; the same command goes on', ended
    run = tmp_path / 'model.name=mobilenet_v1'
    stopped = read_summary(run)
    assert not stopped['finished'] and 1 <= stopped['step'] < 300

    ended = launcher.run(*command)
    summary = read_summary(run)
    assert (summary['finished'], summary['step'], summary['starts']) == (True, 300, 2)
    assert f'going on from the checkpoint of step {stopped["step"]}' in ended.output
    assert ended.status == 1, ended
    failed, last = ended.errors[-2:]
    assert failed.startswith("failed: model.name=no_network, exit status 2: error: model.name='no_network' is unknown")
    assert last == 'error: 1 of 2 runs failed: model.name=no_network.'
    assert (tmp_path / 'compare.png').exists()
