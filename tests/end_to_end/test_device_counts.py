"""One device and eight take the same steps: a wrong mean over devices, or separate statistics, would be visible."""

import jax
import numpy as np
import pytest
from launching import PRECISE_RUN, assert_states_agree, read_state

FIELDS = PRECISE_RUN | {
    'model.sync_bn': True,
    'model.dropout_rate': 0.0,  # its masks differ from device to device
    'batch_size': 16,
    'num_steps': 20,
    'evaluation.every_steps': 20,
    'checkpoint.every_steps': 20,
}


@pytest.mark.slow  # a pair with two devices each and one process with four, in the fast tests
def test_one_and_eight_devices_agree_in_double_precision(launcher, tmp_path):
    for devices in (1, 8):
        ended = launcher.train(tmp_path / str(devices), fields=FIELDS, devices=devices).end()
        assert ended.status == 0, ended
        assert any(line.startswith(f'{devices} cpu device') for line in ended.output)
    one, eight = (read_state(tmp_path / str(devices), FIELDS['num_steps']) for devices in (1, 8))
    assert_states_agree(one, eight)
    # It was a way to go: eight times the gradient, say, would have led elsewhere.
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), one['params'], one['ema_params'])
    assert min(jax.tree.leaves(moved)) > 1e-7
