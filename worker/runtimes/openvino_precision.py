"""Keeps in float32 what bfloat16 would spoil: a trunk's first layer and the statistics of its instance norms.

A photo's levels, and the first convolution's sums over 9x9 of them, need more than bfloat16's 8 bits: the normalisation
amplifies what is lost there. The other convolutions do not mind, and it is they that take the time.
"""

import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Set
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def join_norms(model: ov.Model) -> None:
    """Makes one operation of each instance norm: OpenVINO computes its mean and variance in float32."""
    for node in model.get_ordered_ops():
        if _is_instance_norm(node):
            _join_norm(node)
    model.validate_nodes_and_infer_types()


def keep_first_layer(core: ov.Core, model: ov.Model) -> ov.Model:
    """A copy of a trunk whose operations up to the first ReLU are computed in float32.

    Raises `OSError` where the temporary folder has no room for it.
    """
    # The mark is a typed attribute, which Python cannot set: it is written into the model's file.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        try:
            ov.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:
            # All that OpenVINO says of a full disk is "iostream error".
            raise OSError(f"it cannot be written to {tempfile.gettempdir()}, as OpenVINO needs it") from error
        tree = ElementTree.parse(path)  # noqa: S314 - written by ourselves a moment ago
        _mark(tree, _names_up_to_first_relu(model))
        tree.write(path)
        # Bytes are copied; a path would be mapped, and the folder is about to vanish.
        return core.read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())


def _is_instance_norm(node: ov.Node) -> bool:
    """Whether that is `x * gain + (shift - mean * gain)` with a variance over height and width.

    In a trunk that is given its statistics the variance is no `ReduceMean`.
    """
    if node.get_type_name() != "Add" or [_source(node, i).get_type_name() for i in (0, 1)] != ["Multiply", "Subtract"]:
        return False
    gain = _source(_source(node, 0), 1)
    return bool(gain.get_type_name() == "Multiply") and _has_own_variance(gain)


def _has_own_variance(gain: ov.Node) -> bool:
    return bool(_source(_variance_plus_eps(gain), 0).get_type_name() == "ReduceMean")


def _join_norm(add: ov.Node) -> None:
    product, difference = _source(add, 0), _source(add, 1)
    gain = _source(product, 1)
    eps = float(_source(_variance_plus_eps(gain), 1).get_data().item())
    normalized = ops.mvn(product.input_value(0), np.array([2, 3], np.int64), True, eps, "inside_sqrt")
    scale, shift = _channels_last(gain.input_value(0)), _channels_last(difference.input_value(0))
    joined = ops.add(ops.multiply(normalized, scale), shift)
    for target in add.output(0).get_target_inputs():
        target.replace_source_output(joined.output(0))


def _channels_last(vector_BC11: ov.Output) -> ov.Node:
    """The same in the layout in which convolutions write maps.

    An operation takes the layout that most of its operands have. Scale and shift come as planes, two against one map,
    which would be turned to planes for them and back for the next convolution: a quarter of the time. A convolution of
    each channel by one hands them on as they are, but channels last.
    """
    channels = vector_BC11.get_partial_shape()[1].get_length()
    ones_C1111 = ops.constant(np.ones((channels, 1, 1, 1, 1), np.float32))
    return ops.group_convolution(vector_BC11, ones_C1111, [1, 1], [0, 0], [0, 0], [1, 1])


def _variance_plus_eps(gain: ov.Node) -> ov.Node:
    """Of `gain = scale * (1 / sqrt(variance + eps))`."""
    return _source(_source(_source(gain, 1), 1), 0)


def _source(node: ov.Node, index: int) -> ov.Node:
    return node.input_value(index).get_node()


def _names_up_to_first_relu(model: ov.Model) -> Set[str]:
    first = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Relu")
    return {node.get_friendly_name() for node in _with_ancestors(first)}


def _with_ancestors(node: ov.Node) -> Iterator[ov.Node]:
    yield node
    for value in node.input_values():
        yield from _with_ancestors(value.get_node())


def _mark(tree: "ElementTree.ElementTree[ElementTree.Element]", names: Set[str]) -> None:
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") not in names:
            continue
        info = layer.find("rt_info")
        if info is None:
            info = ElementTree.SubElement(layer, "rt_info")
        ElementTree.SubElement(info, "attribute", {"name": "precise", "version": "0"})
