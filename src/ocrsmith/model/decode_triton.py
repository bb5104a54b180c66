"""Triton kernels of a decoding step. Imported only where they run: on a CUDA device, or by a test of theirs.

Every kernel has its plain twin, in the module that launches it: `decode_attention.py`, `decode_ops.py`,
`decode_experts.py`. Sums are in float32. Sizes that are no power of two are filled up with masked lanes.

Letters: B sequences, S slots, L places of a slot, h heads, d channels of a head, H hidden, E experts, k chosen.
"""

# mypy: disallow-untyped-defs=False

import triton
import triton.language as tl


@triton.jit
def attend_part(
    q_ptr,
    keys_ptr,
    values_ptr,
    positions_ptr,
    sums_ptr,
    peaks_ptr,
    norms_ptr,
    slot_stride,
    head_stride,
    scale,
    heads,
    d,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    D: tl.constexpr,
):
    """One part of one sequence's keys, for one head: online softmax over blocks of `BLOCK` keys.

    q (B, h, d); keys, values (S, h, L, d) of a layer, rows of d contiguous; sequence b lies in slot b and sees
    places 0 … positions[b]. Writes sums (B, h, SPLITS, d), peaks and norms (B, h, SPLITS), all float32.
    """
    sequence, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(positions_ptr + sequence).to(tl.int32) + 1
    blocks = tl.cdiv(tl.cdiv(length, BLOCK), SPLITS)
    first = split * blocks * BLOCK
    last = tl.minimum(first + blocks * BLOCK, length)
    lanes = tl.arange(0, D)
    real = lanes < d
    q = tl.load(q_ptr + (sequence * heads + head) * d + lanes, mask=real, other=0.0).to(tl.float32) * scale
    base = sequence.to(tl.int64) * slot_stride + head * head_stride
    peak = -float("inf")
    norm = 0.0
    total = tl.zeros([D], dtype=tl.float32)
    for start in range(first, last, BLOCK):
        places = start + tl.arange(0, BLOCK)
        seen = places < last
        spots = base + places[:, None].to(tl.int64) * d + lanes[None, :]
        both = seen[:, None] & real[None, :]
        k = tl.load(keys_ptr + spots, mask=both, other=0.0).to(tl.float32)
        v = tl.load(values_ptr + spots, mask=both, other=0.0).to(tl.float32)
        scores = tl.where(seen, tl.sum(k * q[None, :], axis=1), -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=0))
        shrink = tl.exp(peak - higher)
        shares = tl.exp(scores - higher)
        norm = norm * shrink + tl.sum(shares, axis=0)
        total = total * shrink + tl.sum(shares[:, None] * v, axis=0)
        peak = higher
    part = (sequence * heads + head) * SPLITS + split
    tl.store(sums_ptr + part * d + lanes, total, mask=real)
    tl.store(peaks_ptr + part, peak)
    tl.store(norms_ptr + part, norm)


@triton.jit
def attend_join(
    sums_ptr, peaks_ptr, norms_ptr, out_ptr, d, SPLITS: tl.constexpr, PARTS: tl.constexpr, D: tl.constexpr
):
    """Joins the parts of `attend_part`: out (B, h, d). `PARTS` is `SPLITS` filled up to a power of two."""
    row = tl.program_id(0)
    lanes, parts = tl.arange(0, D), tl.arange(0, PARTS)
    there = parts < SPLITS
    peaks = tl.load(peaks_ptr + row * SPLITS + parts, mask=there, other=-float("inf"))
    norms = tl.load(norms_ptr + row * SPLITS + parts, mask=there, other=0.0)
    shares = tl.exp(peaks - tl.max(peaks, axis=0))
    both = there[:, None] & (lanes < d)[None, :]
    spots = (row * SPLITS + parts[:, None]) * d + lanes[None, :]
    sums = tl.load(sums_ptr + spots, mask=both, other=0.0)
    out = tl.sum(sums * shares[:, None], axis=0) / tl.sum(norms * shares, axis=0)
    tl.store(out_ptr + row * d + lanes, out.to(out_ptr.dtype.element_ty), mask=lanes < d)


@triton.jit
def add_norm(
    x_ptr, delta_ptr, weight_ptr, sum_ptr, out_ptr, size, eps, HAS_DELTA: tl.constexpr, BLOCK: tl.constexpr
):
    """sum = x + delta, out = RMSNorm(sum); (B, H), a program a row. Without delta the sum is not written."""
    row = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    real = lanes < size
    x = tl.load(x_ptr + row * size + lanes, mask=real, other=0.0)
    if HAS_DELTA:
        delta = tl.load(delta_ptr + row * size + lanes, mask=real, other=0.0)
        x = (x.to(tl.float32) + delta.to(tl.float32)).to(x_ptr.dtype.element_ty)
        tl.store(sum_ptr + row * size + lanes, x, mask=real)
    wide = x.to(tl.float32)
    wide = wide * tl.rsqrt(tl.sum(wide * wide, axis=0) / size + eps)
    weight = tl.load(weight_ptr + lanes, mask=real, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * size + lanes, (wide * weight).to(out_ptr.dtype.element_ty), mask=real)


@triton.jit
def rotate_and_store(
    qkv_ptr,
    cos_ptr,
    sin_ptr,
    positions_ptr,
    q_ptr,
    keys_ptr,
    values_ptr,
    slot_stride,
    head_stride,
    heads,
    d,
    HALF: tl.constexpr,
):
    """Rotates a token's queries and keys, and puts keys and values at its place: a program a sequence and head.

    qkv (B, 3, h, d); cos, sin (places, d); q (B, h, d); keys, values (S, h, L, d) of a layer.
    """
    sequence, head = tl.program_id(0), tl.program_id(1)
    position = tl.load(positions_ptr + sequence).to(tl.int64)
    half = d // 2
    lanes = tl.arange(0, HALF)
    real = lanes < half
    source = (sequence * 3 * heads + head) * d
    step = heads * d
    cos_a = tl.load(cos_ptr + position * d + lanes, mask=real, other=0.0).to(tl.float32)
    cos_b = tl.load(cos_ptr + position * d + half + lanes, mask=real, other=0.0).to(tl.float32)
    sin_a = tl.load(sin_ptr + position * d + lanes, mask=real, other=0.0).to(tl.float32)
    sin_b = tl.load(sin_ptr + position * d + half + lanes, mask=real, other=0.0).to(tl.float32)
    a = tl.load(qkv_ptr + source + lanes, mask=real, other=0.0).to(tl.float32)
    b = tl.load(qkv_ptr + source + half + lanes, mask=real, other=0.0).to(tl.float32)
    target = (sequence * heads + head) * d
    kind = q_ptr.dtype.element_ty
    tl.store(q_ptr + target + lanes, (a * cos_a - b * sin_a).to(kind), mask=real)
    tl.store(q_ptr + target + half + lanes, (b * cos_b + a * sin_b).to(kind), mask=real)
    spot = sequence.to(tl.int64) * slot_stride + head * head_stride + position * d
    a = tl.load(qkv_ptr + source + step + lanes, mask=real, other=0.0).to(tl.float32)
    b = tl.load(qkv_ptr + source + step + half + lanes, mask=real, other=0.0).to(tl.float32)
    tl.store(keys_ptr + spot + lanes, (a * cos_a - b * sin_a).to(kind), mask=real)
    tl.store(keys_ptr + spot + half + lanes, (b * cos_b + a * sin_b).to(kind), mask=real)
    a = tl.load(qkv_ptr + source + 2 * step + lanes, mask=real, other=0.0)
    b = tl.load(qkv_ptr + source + 2 * step + half + lanes, mask=real, other=0.0)
    tl.store(values_ptr + spot + lanes, a, mask=real)
    tl.store(values_ptr + spot + half + lanes, b, mask=real)


@triton.jit
def choose_experts(
    x_ptr,
    weight_ptr,
    indices_ptr,
    shares_ptr,
    size,
    experts,
    factor,
    K: tl.constexpr,
    NORMALISE: tl.constexpr,
    E: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The router: softmax over all experts, the K largest of it; a program a token.

    x (B, H), weight (E, H); indices (B, K) int32 and shares (B, K) float32, largest first.
    """
    row = tl.program_id(0)
    names, lanes = tl.arange(0, E), tl.arange(0, BLOCK)
    there = names < experts
    logits = tl.zeros([E], dtype=tl.float32)
    for start in range(0, size, BLOCK):
        places = start + lanes
        real = places < size
        x = tl.load(x_ptr + row * size + places, mask=real, other=0.0).to(tl.float32)
        spots = names[:, None] * size + places[None, :]
        both = there[:, None] & real[None, :]
        weight = tl.load(weight_ptr + spots, mask=both, other=0.0).to(tl.float32)
        logits += tl.sum(weight * x[None, :], axis=1)
    logits = tl.where(there, logits, -float("inf"))
    scores = tl.exp(logits - tl.max(logits, axis=0))
    scores = scores / tl.sum(scores, axis=0)
    total = 0.0
    if NORMALISE:
        left = scores
        for _ in range(K):
            best = tl.argmax(left, axis=0)
            total += tl.max(left, axis=0)
            left = tl.where(names == best, -1.0, left)
        factor = factor / (total + 1e-20)
    left = scores
    for j in range(K):
        best = tl.argmax(left, axis=0)
        tl.store(indices_ptr + row * K + j, best.to(tl.int32))
        tl.store(shares_ptr + row * K + j, tl.max(left, axis=0) * factor)
        left = tl.where(names == best, -1.0, left)


@triton.jit
def _dot_rows(weight_ptr, x_ptr, rows, real_rows, size, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The product of some rows of a matrix with a vector: (ROWS,) float32."""
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, size, BLOCK):
        places = start + lanes
        real = places < size
        x = tl.load(x_ptr + places, mask=real, other=0.0).to(tl.float32)
        spots = rows[:, None].to(tl.int64) * size + places[None, :]
        weight = tl.load(weight_ptr + spots, mask=real_rows[:, None] & real[None, :], other=0.0).to(tl.float32)
        total += tl.sum(weight * x[None, :], axis=1)
    return total


@triton.jit
def experts_in(
    x_ptr,
    indices_ptr,
    gate_ptr,
    up_ptr,
    shared_ptr,
    inner_ptr,
    hidden,
    width,
    shared_width,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """SwiGLU(gate x, up x) of a token's K chosen experts and of the shared experts: a program some rows of one.

    x (B, H); gate, up (E, I, H); shared (2·W, H), gate's rows before up's, where W = shared_width = PARTS·I;
    inner (B, K + PARTS, I) in x's dtype: the chosen experts, then the shared ones, I channels at a time.
    """
    token, part = tl.program_id(0), tl.program_id(1)
    rows = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    real = rows < width
    kind = inner_ptr.dtype.element_ty
    if part < K:
        expert = tl.load(indices_ptr + token * K + part).to(tl.int64)
        skip = expert * width * hidden
        gate = _dot_rows(gate_ptr + skip, x_ptr + token * hidden, rows, real, hidden, ROWS, BLOCK)
        up = _dot_rows(up_ptr + skip, x_ptr + token * hidden, rows, real, hidden, ROWS, BLOCK)
    else:
        own = rows + (part - K) * width
        gate = _dot_rows(shared_ptr, x_ptr + token * hidden, own, real, hidden, ROWS, BLOCK)
        own = own + shared_width
        up = _dot_rows(shared_ptr, x_ptr + token * hidden, own, real, hidden, ROWS, BLOCK)
    gate = gate.to(kind).to(tl.float32)  # as the plain way rounds between its steps
    up = up.to(kind).to(tl.float32)
    out = (gate * tl.sigmoid(gate)).to(kind).to(tl.float32) * up
    tl.store(inner_ptr + (token * (K + PARTS) + part) * width + rows, out.to(kind), mask=real)


@triton.jit
def experts_out(
    inner_ptr,
    indices_ptr,
    shares_ptr,
    down_ptr,
    shared_ptr,
    out_ptr,
    hidden,
    width,
    shared_width,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The weighted sum of the chosen experts' outputs, plus the shared ones': a program some rows of a token.

    inner as `experts_in` leaves it; indices, shares (B, K); down (E, H, I); shared (H, W); out (B, H).
    """
    token = tl.program_id(0)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    real = rows < hidden
    source = inner_ptr + token * (K + PARTS) * width
    total = tl.zeros([ROWS], dtype=tl.float32)
    for j in range(K):
        expert = tl.load(indices_ptr + token * K + j).to(tl.int64)
        share = tl.load(shares_ptr + token * K + j)
        skip = expert * hidden * width
        total += share * _dot_rows(down_ptr + skip, source + j * width, rows, real, width, ROWS, BLOCK)
    if PARTS > 0:
        total += _dot_rows(shared_ptr, source + K * width, rows, real, shared_width, ROWS, BLOCK)
    tl.store(out_ptr + token * hidden + rows, total.to(out_ptr.dtype.element_ty), mask=real)
