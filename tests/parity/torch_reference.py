"""PyTorch networks as references: random weights, and every layer's weights and output in the order of the calls."""

import jax
import jax.numpy as jnp
import numpy as np
from paired_layers import ReferenceLayer, assert_close, assert_same_network, at, copy_weights


def assert_same_as_torch(torch, model, network, image_size: int, outputs=lambda outputs: outputs):
    """Randomises a PyTorch network and compares one of ours with it, layer by layer.

    Args:
        torch: the module.
        model: one of ours.
        network: a `torch.nn.Module` that maps images to logits.
        image_size: in pixels.
        outputs: makes an array like the network's of what ours returns.
    """
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (2, image_size, image_size, 3)).astype(np.float32)
    torch_images = torch.from_numpy(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        _randomise(torch, network, torch_images, generator)
        layers, logits = _run(torch, network, torch_images)
    assert_same_network(model, images, layers, logits, outputs=outputs)


def assert_same_training_as_torch(torch, model, network, image_size: int, outputs=lambda outputs: outputs):
    """Compares outputs and the gradients of all weights by batch statistics, in float64.

    Args:
        torch: the module.
        model: one of ours, in float64, without dropout.
        network: see `assert_same_as_torch`.
        image_size: in pixels.
        outputs: see `assert_same_as_torch`.
    """
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (2, image_size, image_size, 3))
    torch_images, network = torch.from_numpy(images.transpose(0, 3, 1, 2)), network.double()
    with torch.no_grad():
        _randomise(torch, network, torch_images, generator)
        layers, _ = _run(torch, network, torch_images)
    network.train()
    expected = network(torch_images)
    weights = generator.standard_normal(expected.shape)
    (expected * torch.from_numpy(weights)).sum().backward()
    variables, paths = copy_weights(model, images, layers)

    @jax.jit
    def gradients(variables):
        def loss(params):
            (found, _), _ = model.apply({**variables, 'params': params}, images, train=True, mutable=['batch_stats'])
            found = outputs(found)
            return jnp.sum(weights * found), found

        return jax.grad(loss, has_aux=True)(variables['params'])

    ours, found = gradients(jax.tree.map(lambda leaf: leaf.astype(np.float64), variables))
    assert_close(np.asarray(found), expected.detach().numpy(), 1e-6, 'outputs')
    modules = dict(network.named_modules())
    theirs = [_gradients(torch, modules[layer.name]) for layer in layers]
    largest = max(np.max(np.abs(gradient)) for layer in theirs for gradient in layer.values())
    for path, layer in zip(paths, theirs, strict=True):
        for name, gradient in layer.items():
            found = np.asarray(at(ours, path)[name])
            # A bias before a batch norm has the gradient 0, except for rounding.
            allowed = 1e-6 * np.max(np.abs(gradient)) + 1e-12 * largest
            error = np.max(np.abs(found - gradient.reshape(found.shape)))
            assert error <= allowed, f'gradient of {"/".join(path)}/{name}: {error:.2e} where {allowed:.2e} is allowed'


def _gradients(torch, layer) -> dict[str, np.ndarray]:
    weight = 'scale' if isinstance(layer, torch.nn.BatchNorm2d) else 'kernel'
    found = {weight: _in_our_layout(layer.weight.grad)}
    return found if layer.bias is None else found | {'bias': layer.bias.grad.numpy()}


def _in_our_layout(weight) -> np.ndarray:
    array = weight.numpy()
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.transpose()  # (out, in, h, w) -> (h, w, in, out)


def _randomise(torch, network, images, generator) -> None:
    """Fresh weights: kernels of He's scale, scales near 1, small biases; and statistics that fit these images.

    With statistics that do not fit, activations grow from layer to layer until rounding alone exceeds any tolerance;
    so it does in a channel that hardly varies, hence the floor under the variances.
    """

    def normal(tensor):
        return torch.from_numpy(generator.standard_normal(tuple(tensor.shape)).astype(np.float32))

    layers = _weighted_layers(torch, network).values()
    for layer in layers:
        if layer.bias is not None:
            layer.bias.copy_(0.2 * normal(layer.bias))
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.copy_(torch.exp(0.2 * normal(layer.weight)))
            layer.momentum = 1.0  # one call in training mode sets the running statistics to the batch's
        else:
            fan_in = np.prod(layer.weight.shape[1:])
            layer.weight.copy_(normal(layer.weight) * np.sqrt(2 / fan_in))
    network.train()
    network(images)
    network.eval()
    for layer in layers:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var += layer.running_var.mean()


def _weighted_layers(torch, network) -> dict:
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def _run(torch, network, images) -> tuple[list[ReferenceLayer], np.ndarray]:
    """The layers with weights in the order of their calls, and the logits."""
    layers = []

    def record(name):
        # timm's BatchNormAct2d applies its activation too, so that what normalisation alone gives is computed here.
        def hook(layer, inputs, output):
            if isinstance(layer, torch.nn.BatchNorm2d):
                output = torch.nn.functional.batch_norm(
                    inputs[0], layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
                )
            layers.append(ReferenceLayer(name, _weights(torch, layer), _to_nhwc(output)))

        return hook

    handles = [layer.register_forward_hook(record(name)) for name, layer in _weighted_layers(torch, network).items()]
    logits = network(images).numpy()
    for handle in handles:
        handle.remove()
    return layers, logits


def _weights(torch, layer) -> dict[str, np.ndarray]:
    weights = {}
    if isinstance(layer, torch.nn.BatchNorm2d):
        weights['scale'] = layer.weight.numpy()
        weights['mean'], weights['var'] = layer.running_mean.numpy(), layer.running_var.numpy()
    else:
        weights['kernel'] = _in_our_layout(layer.weight)
    if layer.bias is not None:
        weights['bias'] = layer.bias.numpy()
    return weights


def _to_nhwc(output) -> np.ndarray:
    # A copy: what follows may work in place.
    return output.numpy().transpose(0, 2, 3, 1).copy() if output.ndim == 4 else output.numpy().copy()
