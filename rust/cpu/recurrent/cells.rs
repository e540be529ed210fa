//! The arithmetic of recurrent cells on vectors of hidden units: one step, and the gradients of its gates.
//! Which units of which sequences are passed, and the products, are the business of `mod.rs`.

use crate::cpu::isa;
use crate::cpu::lanes::{Arch, Lanes, OnLanes, Real, Vector, dispatch};
use crate::ir::elementwise::{UnaryNumber, op};
use crate::ir::kernel::Cell;
use crate::ir::value::{Float, Number};

/// No cell has more gates, nor keeps more.
pub const MOST: usize = 4;

/// A cell's formulas. Arrays have room for [`MOST`] gates; what a cell does not have is ignored.
trait Formula {
    const GATES: usize;
    const STATES: usize;
    /// How many values a unit keeps for the gradient.
    const KEPT: usize;

    /// From the input's and the last hidden state's shares of the gates, h and c: the next h and c, and
    /// what the gradient needs.
    fn forward<S: Lanes>(gi: [Vector<S>; MOST], gh: [Vector<S>; MOST], state: [Vector<S>; 2]) -> Step<S>;

    /// From what was kept, the states around the step, the gradient of the next h, and what the later
    /// steps have left over (the gradient of the next c; the part of h's that goes past the gates).
    fn backward<S: Lanes>(
        kept: [Vector<S>; MOST],
        before: [Vector<S>; 2],
        after: [Vector<S>; 2],
        dh: Vector<S>,
        carry: Vector<S>,
    ) -> Back<S>;
}

struct Step<S> {
    state: [Vector<S>; 2],
    kept: [Vector<S>; MOST],
}

struct Back<S> {
    dgi: [Vector<S>; MOST],
    dgh: [Vector<S>; MOST],
    carry: Vector<S>,
}

/// The slope of the logistic function where its value is y.
#[inline(always)]
fn slope<S: Lanes>(y: Vector<S>) -> Vector<S> {
    y * (1.0 - y)
}

/// The logistic function of both with one division, the slowest of all instructions here:
/// 1/a = b/(a b). Beyond −40 it is 4e-18.
#[inline(always)]
fn sigmoids<S: Lanes>(a: Vector<S>, b: Vector<S>) -> [Vector<S>; 2] {
    let a = (-a).at_most(40.0).exp() + 1.0;
    let b = (-b).at_most(40.0).exp() + 1.0;
    let both = 1.0 / (a * b);
    [both * b, both * a]
}

/// The logistic function of one and the tangent of the other, with one division as well:
/// tanh(b) = t / (t + 2) with t = exp(2 b) − 1, which is 1 beyond 20.
#[inline(always)]
fn sigmoid_and_tanh<S: Lanes>(a: Vector<S>, b: Vector<S>) -> [Vector<S>; 2] {
    let a = (-a).at_most(40.0).exp() + 1.0;
    let t = (b + b).at_most(40.0).expm1();
    let both = 1.0 / (a * (t + 2.0));
    [both * (t + 2.0), both * a * t]
}

#[inline(always)]
fn zero<S: Lanes>() -> Vector<S> {
    Vector::of(0.0)
}

/// h' = tanh(gi + gh).
enum Tanh {}
/// h' = max(gi + gh, 0).
enum Relu {}
/// i, f, g, o = gi + gh; c' = σ(f) c + σ(i) tanh(g); h' = σ(o) tanh(c').
enum Lstm {}
/// r = σ(gi₁ + gh₁); z = σ(gi₂ + gh₂); n = tanh(gi₃ + r gh₃); h' = (1 − z) n + z h.
enum Gru {}

impl Formula for Tanh {
    const GATES: usize = 1;
    const STATES: usize = 1;
    const KEPT: usize = 0;

    #[inline(always)]
    fn forward<S: Lanes>(gi: [Vector<S>; MOST], gh: [Vector<S>; MOST], state: [Vector<S>; 2]) -> Step<S> {
        Step { state: [(gi[0] + gh[0]).tanh(), state[1]], kept: gi }
    }

    #[inline(always)]
    fn backward<S: Lanes>(
        _: [Vector<S>; MOST],
        _: [Vector<S>; 2],
        after: [Vector<S>; 2],
        dh: Vector<S>,
        carry: Vector<S>,
    ) -> Back<S> {
        let d = [dh * (1.0 - after[0] * after[0]), zero(), zero(), zero()];
        Back { dgi: d, dgh: d, carry }
    }
}

impl Formula for Relu {
    const GATES: usize = 1;
    const STATES: usize = 1;
    const KEPT: usize = 0;

    #[inline(always)]
    fn forward<S: Lanes>(gi: [Vector<S>; MOST], gh: [Vector<S>; MOST], state: [Vector<S>; 2]) -> Step<S> {
        Step { state: [<op::relu as UnaryNumber>::apply(gi[0] + gh[0]), state[1]], kept: gi }
    }

    #[inline(always)]
    fn backward<S: Lanes>(
        _: [Vector<S>; MOST],
        _: [Vector<S>; 2],
        after: [Vector<S>; 2],
        dh: Vector<S>,
        carry: Vector<S>,
    ) -> Back<S> {
        let d = [Vector::select(after[0].gt(zero()), dh, zero()), zero(), zero(), zero()];
        Back { dgi: d, dgh: d, carry }
    }
}

impl Formula for Lstm {
    const GATES: usize = 4;
    const STATES: usize = 2;
    const KEPT: usize = 4;

    #[inline(always)]
    fn forward<S: Lanes>(gi: [Vector<S>; MOST], gh: [Vector<S>; MOST], state: [Vector<S>; 2]) -> Step<S> {
        let [i, f] = sigmoids(gi[0] + gh[0], gi[1] + gh[1]);
        let [o, g] = sigmoid_and_tanh(gi[3] + gh[3], gi[2] + gh[2]);
        let c = f * state[1] + i * g;
        Step { state: [o * c.tanh(), c], kept: [i, f, g, o] }
    }

    #[inline(always)]
    fn backward<S: Lanes>(
        [i, f, g, o]: [Vector<S>; MOST],
        before: [Vector<S>; 2],
        after: [Vector<S>; 2],
        dh: Vector<S>,
        carry: Vector<S>,
    ) -> Back<S> {
        let y = after[1].tanh();
        let dc = carry + dh * o * (1.0 - y * y);
        let d = [dc * g * slope(i), dc * before[1] * slope(f), dc * i * (1.0 - g * g), dh * y * slope(o)];
        Back { dgi: d, dgh: d, carry: dc * f }
    }
}

impl Formula for Gru {
    const GATES: usize = 3;
    const STATES: usize = 1;
    const KEPT: usize = 4;

    #[inline(always)]
    fn forward<S: Lanes>(gi: [Vector<S>; MOST], gh: [Vector<S>; MOST], state: [Vector<S>; 2]) -> Step<S> {
        let [r, z] = sigmoids(gi[0] + gh[0], gi[1] + gh[1]);
        let n = (gi[2] + r * gh[2]).tanh();
        Step { state: [n + z * (state[0] - n), state[1]], kept: [r, z, n, gh[2]] }
    }

    #[inline(always)]
    fn backward<S: Lanes>(
        [r, z, n, hn]: [Vector<S>; MOST],
        before: [Vector<S>; 2],
        _: [Vector<S>; 2],
        dh: Vector<S>,
        carry: Vector<S>,
    ) -> Back<S> {
        let dh = dh + carry;
        let dz = dh * (before[0] - n) * slope(z);
        let dn = dh * (1.0 - z) * (1.0 - n * n);
        let dr = dn * hn * slope(r);
        Back { dgi: [dr, dz, dn, zero()], dgh: [dr, dz, dn * r, zero()], carry: dh * z }
    }
}

/// Sizes of a cell: gates, states, and values kept for each unit.
pub fn sizes(cell: Cell) -> (usize, usize, usize) {
    fn of<F: Formula>() -> (usize, usize, usize) {
        (F::GATES, F::STATES, F::KEPT)
    }
    match cell {
        Cell::Tanh => of::<Tanh>(),
        Cell::Relu => of::<Relu>(),
        Cell::Lstm => of::<Lstm>(),
        Cell::Gru => of::<Gru>(),
    }
}

/// One step of some units of some sequences. Pointers are at the first unit of the first sequence, of
/// whose gates one lies `hidden` behind the other, but in `gh`, where it is `width`. States that the cell
/// does not have, no bias and nothing to keep are null.
pub struct Forward<T> {
    pub cell: Cell,
    pub rows: usize,
    pub units: usize,
    pub hidden: usize,
    pub width: usize,
    pub gi: *const T,
    pub gh: *const T,
    pub bias: *const T,
    pub before: [*const T; 2],
    pub after: [*mut T; 2],
    pub kept: *mut T,
}

/// The gradients of one step of some units of some sequences; as [`Forward`]. `dh` is what has come
/// through the later steps' gates, `dy` what is added to it; `dgh` is null where it is `dgi`.
pub struct Backward<T> {
    pub cell: Cell,
    pub rows: usize,
    pub units: usize,
    pub hidden: usize,
    pub width: usize,
    pub dh: *const T,
    pub dy: *const T,
    pub kept: *const T,
    pub before: [*const T; 2],
    pub after: [*const T; 2],
    pub carry: *mut T,
    pub dgi: *mut T,
    pub dgh: *mut T,
}

impl<T: Real> Forward<T> {
    /// # Safety
    /// What the pointers say is there, and the written parts are the caller's alone.
    pub unsafe fn run(self) {
        dispatch(isa::get(), self);
    }
}

impl<T: Real> Backward<T> {
    /// # Safety
    /// As for [`Forward::run`].
    pub unsafe fn run(self) {
        dispatch(isa::get(), self);
    }
}

/// `count` elements at an address, a vector or a part of one; zeros from a null pointer.
#[inline(always)]
unsafe fn get<S: Lanes>(at: *const S::Elem, offset: usize, count: usize) -> Vector<S> {
    if at.is_null() {
        return zero();
    }
    // SAFETY: the caller vouches for the elements.
    unsafe {
        let at = at.add(offset);
        Vector(if count == S::WIDTH { S::load(at) } else { S::load_part(at, count) })
    }
}

/// Writes as many; nothing to a null pointer.
#[inline(always)]
unsafe fn put<S: Lanes>(at: *mut S::Elem, offset: usize, count: usize, x: Vector<S>) {
    if at.is_null() {
        return;
    }
    // SAFETY: the caller vouches for the elements.
    unsafe {
        let at = at.add(offset);
        if count == S::WIDTH { x.0.store(at) } else { x.0.store_part(at, count) }
    }
}

impl<T: Real> OnLanes for Forward<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        match self.cell {
            Cell::Tanh => self.units::<Tanh, T::In<A>>(),
            Cell::Relu => self.units::<Relu, T::In<A>>(),
            Cell::Lstm => self.units::<Lstm, T::In<A>>(),
            Cell::Gru => self.units::<Gru, T::In<A>>(),
        }
    }
}

impl<T: Real> Forward<T> {
    #[inline(always)]
    fn units<F: Formula, S: Lanes<Elem = T>>(&self) {
        let (h, width) = (self.hidden, self.width);
        for row in 0..self.rows {
            let mut at = 0;
            while at < self.units {
                let n = S::WIDTH.min(self.units - at);
                let [mut gi, mut gh] = [[zero::<S>(); MOST]; 2];
                // SAFETY: `Forward::run`'s; `n` units from `at` on are among them.
                unsafe {
                    for g in 0..F::GATES {
                        gi[g] = get(self.gi, (row * F::GATES + g) * h + at, n);
                        // Products are padded to whole vectors.
                        gh[g] = Vector(S::load(self.gh.add((row * F::GATES + g) * width + at)));
                        gh[g] = gh[g] + get(self.bias, g * h + at, n);
                    }
                    let state = [get(self.before[0], row * h + at, n), get(self.before[1], row * h + at, n)];
                    let step = F::forward(gi, gh, state);
                    for s in 0..F::STATES {
                        put(self.after[s], row * h + at, n, step.state[s]);
                    }
                    for k in 0..F::KEPT {
                        put(self.kept, (row * F::KEPT + k) * h + at, n, step.kept[k]);
                    }
                }
                at += S::WIDTH;
            }
        }
    }
}

impl<T: Real> OnLanes for Backward<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        match self.cell {
            Cell::Tanh => self.units::<Tanh, T::In<A>>(),
            Cell::Relu => self.units::<Relu, T::In<A>>(),
            Cell::Lstm => self.units::<Lstm, T::In<A>>(),
            Cell::Gru => self.units::<Gru, T::In<A>>(),
        }
    }
}

impl<T: Real> Backward<T> {
    #[inline(always)]
    fn units<F: Formula, S: Lanes<Elem = T>>(&self) {
        let (h, width) = (self.hidden, self.width);
        for row in 0..self.rows {
            let mut at = 0;
            while at < self.units {
                let n = S::WIDTH.min(self.units - at);
                let place = row * h + at;
                // SAFETY: as above.
                unsafe {
                    let mut kept = [zero::<S>(); MOST];
                    for k in 0..F::KEPT {
                        kept[k] = get(self.kept, (row * F::KEPT + k) * h + at, n);
                    }
                    let before = [get(self.before[0], place, n), get(self.before[1], place, n)];
                    let after = [get(self.after[0], place, n), get(self.after[1], place, n)];
                    let dh = Vector(S::load(self.dh.add(row * width + at))) + get(self.dy, place, n);
                    let back = F::backward(kept, before, after, dh, get(self.carry, place, n));
                    for g in 0..F::GATES {
                        put(self.dgi, (row * F::GATES + g) * h + at, n, back.dgi[g]);
                        put(self.dgh, (row * F::GATES + g) * h + at, n, back.dgh[g]);
                    }
                    put(self.carry, place, n, back.carry);
                }
                at += S::WIDTH;
            }
        }
    }
}
