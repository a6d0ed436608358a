// One number for each head of the workgroup, in a scalar or vector.

// Not `PerHead()`: naga 30 generates invalid HLSL for zero values of an alias beside those of its type.
fn nothing() -> PerHead {
    return PerHead(0.0);
}

fn lowest() -> PerHead {
    return PerHead(LOWEST);
}

fn larger(a: PerHead, b: PerHead) -> PerHead {
    return max(a, b);
}

fn exp_of(a: PerHead, largest: PerHead) -> PerHead {
    return exp(a - largest);
}

fn sum_of(a: PerHead, b: PerHead) -> PerHead {
    return a + b;
}

fn product_of(a: PerHead, b: PerHead) -> PerHead {
    return a * b;
}

fn scaled_by(a: PerHead, factor: f32) -> PerHead {
    return a * factor;
}

// A chunk of eight.
alias Piece = Eight;

const PIECES_OF_CHUNK: u32 = 1u;
const FEW_HEADS: bool = true;

fn piece_at(place: u32, piece: u32) -> Piece {
    return value_chunk(place, piece);
}

fn piece_of(v: Eight, piece: u32) -> Piece {
    return v;
}

fn hold(lane: u32, v: Piece, center: f32) {
    held[2u * lane] = v.lo - center;
    held[2u * lane + 1u] = v.hi - center;
}
