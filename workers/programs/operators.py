"""The literal table of operators that a loss program may call: functional `aten` operators, each with its schema.

A program names an operator by a string; the string is only ever a key of this table. What is not in it does not run: nothing
that writes to its arguments, draws random numbers, reads files or uninitialised memory, reinterprets strides, or
gives a result whose size depends on values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._C import FunctionSchema
from torch._ops import OpOverload

from workers.programs import formulas

Outcome = Tensor | list[Tensor] | tuple[Tensor | list[Tensor], ...]


@dataclass(frozen=True)
class Operator:
    """An operator of the table.

    Attributes:
        schema: types of the arguments, from torch's own declaration.
        call: what runs, with the arguments of the schema.
        is_factory: makes a tensor out of numbers, of the default dtype when none is given.
    """

    schema: FunctionSchema
    call: Callable[..., Outcome]
    is_factory: bool


_ARITHMETIC = """
add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Tensor rsub.Scalar mul.Tensor mul.Scalar div.Tensor div.Scalar div.Tensor_mode
div.Scalar_mode true_divide.Tensor floor_divide.default remainder.Tensor remainder.Scalar fmod.Tensor fmod.Scalar pow.Tensor_Scalar
pow.Tensor_Tensor pow.Scalar neg.default abs.default sign.default sgn.default square.default sqrt.default rsqrt.default
reciprocal.default exp.default exp2.default expm1.default log.default log2.default log10.default log1p.default sin.default
cos.default tan.default asin.default acos.default atan.default atan2.default sinh.default cosh.default tanh.default
asinh.default acosh.default atanh.default sigmoid.default erf.default erfc.default erfinv.default lgamma.default
digamma.default floor.default ceil.default round.default trunc.default frac.default maximum.default minimum.default
fmax.default fmin.default clamp.default clamp.Tensor clamp_min.default clamp_max.default clamp_min.Tensor clamp_max.Tensor
lerp.Tensor lerp.Scalar addcmul.default addcdiv.default logaddexp.default logaddexp2.default hypot.default xlogy.Tensor
copysign.Tensor sinc.default logit.default special_entr.default special_expit.default special_erf.default special_log1p.default
nan_to_num.default heaviside.default deg2rad.default rad2deg.default
"""
_COMPARISON = """
isnan.default isinf.default isfinite.default eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar
gt.Tensor gt.Scalar ge.Tensor ge.Scalar logical_and.default logical_or.default logical_not.default logical_xor.default
bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_or.Scalar bitwise_not.default bitwise_xor.Tensor __and__.Tensor
__or__.Tensor where.self where.ScalarSelf where.ScalarOther where.Scalar masked_fill.Scalar masked_fill.Tensor
"""
_ACTIVATION = """
relu.default relu6.default leaky_relu.default prelu.default _prelu_kernel.default elu.default selu.default celu.default gelu.default
silu.default mish.default softplus.default softshrink.default hardshrink.default hardtanh.default
hardswish.default log_sigmoid.default threshold.default glu.default softmax.int log_softmax.int _softmax.default
_log_softmax.default logsumexp.default logcumsumexp.default
"""
_PRODUCT = """
linear.default matmul.default mm.default bmm.default addmm.default baddbmm.default addmv.default addbmm.default mv.default
dot.default outer.default addr.default einsum.default bilinear.default trace.default linalg_vector_norm.default
norm.ScalarOpt_dim norm.Scalar linalg_norm.default cosine_similarity.default cross.default linalg_cross.default
conv1d.default conv2d.default conv3d.default conv1d.padding conv2d.padding conv3d.padding convolution.default
conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input
"""
_LAYER = """
max_pool1d.default max_pool2d.default max_pool3d.default max_pool2d_with_indices.default max_pool3d_with_indices.default
avg_pool1d.default avg_pool2d.default avg_pool3d.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default
adaptive_avg_pool3d.default _adaptive_avg_pool2d.default adaptive_max_pool1d.default adaptive_max_pool2d.default
layer_norm.default native_layer_norm.default rms_norm.default embedding.default
upsample_nearest1d.vec upsample_nearest2d.vec upsample_linear1d.vec upsample_bilinear2d.vec upsample_bicubic2d.vec
upsample_nearest2d.default upsample_bilinear2d.default pixel_shuffle.default pixel_unshuffle.default im2col.default col2im.default
unfold.default
"""
_LOSS = """
cross_entropy_loss.default nll_loss.default nll_loss2d.default nll_loss_nd.default nll_loss_forward.default
nll_loss2d_forward.default l1_loss.default smooth_l1_loss.default
binary_cross_entropy.default binary_cross_entropy_with_logits.default kl_div.default poisson_nll_loss.default
margin_ranking_loss.default cosine_embedding_loss.default hinge_embedding_loss.default
triplet_margin_loss.default
"""
_REDUCTION = """
sum.default sum.dim_IntList mean.default mean.dim prod.default prod.dim_int var.default var.dim var.correction std.default
std.dim std.correction var_mean.correction var_mean.dim std_mean.correction amax.default amin.default max.default min.default
max.dim min.dim max.other min.other argmax.default argmin.default any.default any.dim any.dims all.default all.dim
cumsum.default cumprod.default sort.default sort.stable topk.default argsort.default count_nonzero.default
count_nonzero.dim_IntList diff.default
"""
_ARRANGEMENT = """
cat.default concat.default stack.default hstack.default vstack.default split.Tensor split.sizes split_with_sizes.default
chunk.default unbind.int slice.Tensor select.int narrow.default index_select.default gather.default take_along_dim.default
scatter.src scatter.value scatter_add.default index_add.default index_copy.default index_put.default select_scatter.default
slice_scatter.default diagonal_scatter.default squeeze.default squeeze.dim squeeze.dims unsqueeze.default expand.default
expand_as.default broadcast_to.default broadcast_tensors.default repeat.default tile.default repeat_interleave.self_int
flatten.using_ints unflatten.int permute.default transpose.int t.default numpy_T.default mT.default movedim.int movedim.intlist
swapaxes.default swapdims.default flip.default roll.default diagonal.default diag.default diag_embed.default tril.default
triu.default view_as.default reshape_as.default reshape.default ravel.default constant_pad_nd.default pad.default
reflection_pad1d.default reflection_pad2d.default replication_pad1d.default replication_pad2d.default meshgrid.default
meshgrid.indexing
"""
_COPY = """
clone.default contiguous.default alias.default detach.default lift_fresh_copy.default to.dtype to.device to.dtype_layout to.other
_to_copy.default type_as.default zeros_like.default ones_like.default full_like.default new_zeros.default new_ones.default
new_full.default
"""
_FACTORY = """
zeros.default ones.default full.default arange.default arange.start arange.start_step linspace.default eye.default eye.m
scalar_tensor.default tril_indices.default triu_indices.default
"""

_WRITTEN_OUT: Mapping[str, Callable[..., Outcome]] = {
    "view.default": formulas.reshaped,
    "_unsafe_view.default": formulas.reshaped,
    "dropout.default": formulas.undropped,
    "feature_dropout.default": formulas.undropped,
    "alpha_dropout.default": formulas.undropped,
    "native_dropout.default": formulas.undropped_with_mask,
    "batch_norm.default": formulas.batch_norm,
    "native_batch_norm.default": formulas.native_batch_norm,
    "_native_batch_norm_legit_no_training.default": formulas.normalized_by_statistics,
    "scaled_dot_product_attention.default": formulas.attention,
    "_scaled_dot_product_flash_attention_for_cpu.default": formulas.attention_with_logsumexp,
    "index.Tensor": formulas.indexed,
    "one_hot.default": formulas.one_hot,
    "copy.default": formulas.copied,
    "fill.Scalar": torch.full_like,
    "fill.Tensor": formulas.copied,
    "group_norm.default": formulas.group_norm,
    "native_group_norm.default": formulas.native_group_norm,
    "hardsigmoid.default": formulas.hardsigmoid,
    "mse_loss.default": formulas.mse_loss,
    "huber_loss.default": formulas.huber_loss,
    "soft_margin_loss.default": formulas.soft_margin_loss,
    "lstm_cell.default": formulas.lstm_cell,
    "gru_cell.default": formulas.gru_cell,
    "rnn_tanh_cell.default": formulas.rnn_tanh_cell,
    "_weight_norm_interface.default": formulas.weight_norm,
}

IGNORED = frozenset(
    f"torch.ops.aten.{name}"
    for name in (
        "_assert_scalar.default",
        "_assert_async.default",
        "_assert_async.msg",
        "_assert_tensor_metadata.default",
        "sym_constrain_range.default",
        "sym_constrain_range_for_size.default",
    )
)
"""Checks that torch adds to a program; they compute nothing, and every shape is checked again where it is used."""


def _overload(name: str) -> OpOverload:
    packet, overload = name.split(".")
    found = getattr(getattr(torch.ops.aten, packet), overload)
    if not isinstance(found, OpOverload):
        raise TypeError(f"{name} is not one overload of an operator")
    return found


def _table() -> dict[str, Operator]:
    plain = " ".join(
        (_ARITHMETIC, _COMPARISON, _ACTIVATION, _PRODUCT, _LAYER, _LOSS, _REDUCTION, _ARRANGEMENT, _COPY, _FACTORY)
    )
    factories = frozenset(_FACTORY.split())
    calls: dict[str, Callable[..., Outcome]] = {name: _overload(name) for name in plain.split()} | dict(_WRITTEN_OUT)
    return {
        f"torch.ops.aten.{name}": Operator(_overload(name)._schema, call, is_factory=name in factories)
        for name, call in calls.items()
    }


TABLE: Mapping[str, Operator] = _table()
