"""The papers' pod, simulated: 32 devices with batch 4096 take the steps of one device with that batch."""

import jax
import numpy as np
import pytest
from launching import PRECISE_RUN, assert_states_agree, read_rows, read_state

FIELDS = PRECISE_RUN | {
    'model.sync_bn': True,
    'model.dropout_rate': 0.0,  # its masks differ from device to device
    'batch_size': 4096,
    'num_steps': 3,
    'schedule.warmup_steps': 1,
    'evaluation.every_steps': 3,
}


@pytest.mark.slow
def test_32_devices_agree_with_one_at_batch_4096(launcher, tmp_path):
    for devices in (1, 32):
        ended = launcher.train(tmp_path / str(devices), fields=FIELDS, devices=devices).end()
        assert ended.status == 0, ended
        assert f'{devices} cpu device(s), 1 process(es), batch 4096, 3 steps' in ended.output
    one, pod = (read_state(tmp_path / str(devices), FIELDS['num_steps']) for devices in (1, 32))
    assert_states_agree(one, pod)
    losses = [[row['loss'] for row in read_rows(tmp_path / str(devices))] for devices in (1, 32)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
    # It was a way to go: 32 times the gradient, say, would have led elsewhere.
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), one['params'], one['ema_params'])
    assert min(jax.tree.leaves(moved)) > 1e-8
