//! Running: collects the pending nodes that an observed value needs, has them planned, and runs the
//! kernels in order. Two threads may do this at once; a node is claimed by exactly one of them.

use super::device::{Buffer, Device, Input, run as run_kernel};
use super::node::{Buffers, Node, Operands, Spec, Specs, Value, Work};
use super::plan::{Cache, Chain, Item, Kind, PlanArg, ScalarRef, Source, Task, plan};
use super::{profile, window};
use crate::core::{Error, Layout, Result, Shape};
use crate::ir::Kernel;
use crate::ir::kernel::{Arg, Fused, Scalars};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

/// Held while nodes are collected and claimed, never while kernels run.
static CLAIM: Mutex<()> = Mutex::new(());
static BATCHES: AtomicU64 = AtomicU64::new(0);
static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// Whether neighbouring nodes become one kernel; `OXON_FUSE=0` says no.
pub fn fuse() -> bool {
    FUSE.load(Ordering::Relaxed)
}

/// Turns fusion on or off and tells what it was; results are the same bit for bit.
pub fn set_fuse(on: bool) -> bool {
    FUSE.swap(on, Ordering::Relaxed)
}

static FUSE: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var("OXON_FUSE").map_or(true, |v| v != "0")));

/// Asked between kernels whether the user wants to stop; set by the Python layer.
pub type Interrupted = fn() -> bool;

static INTERRUPTED: OnceLock<Interrupted> = OnceLock::new();

pub fn set_interrupted(check: Interrupted) {
    let _ = INTERRUPTED.set(check);
}

/// A node that this thread has claimed.
pub(super) struct Claimed {
    /// Let go once it has run: a batch keeps no buffers that nobody will read.
    node: Option<Arc<Node>>,
    pub work: Option<Work>,
}

impl Claimed {
    pub fn node(&self) -> &Arc<Node> {
        self.node.as_ref().expect("asked for before it has run")
    }

    fn finish(&mut self, result: Result<Buffers>) {
        if let Some(node) = self.node.take() {
            node.finish(result);
        }
    }
}

/// Elements of a single operation up to which nothing is won by a plan, by other threads, or by letting
/// other threads of Python run meanwhile.
const SMALL: usize = 4096;

/// Runs `value` if that is one small elementwise operation on operands that have run; tells whether it
/// was. What costs about a microsecond otherwise is a quarter of one here.
pub fn realise_small(value: &Value) -> bool {
    let node = &value.node;
    let small = |work: &Work| {
        matches!(work.kernel, Kernel::Apply { .. })
            && node.device == Device::Cpu
            && node.outputs[0].shape.count() <= SMALL
            && work.operands.iter().all(|operand| operand.value.node.is_done())
    };
    let work = {
        let mut work = node.work.lock();
        if work.as_ref().is_some_and(small) { work.take() } else { None }
    };
    let Some(work) = work else { return false };
    node.finish(attempt(node.device, &work.kernel, &work.operands, &node.outputs, None));
    window::forget(node);
    true
}

/// Runs what `value` needs. An error is left with the values that it spoils.
pub fn realise(value: &Value) -> Result<()> {
    if realise_small(value) {
        return Ok(());
    }
    if let Some(work) = alone(&value.node) {
        // One node with nothing pending below it needs no plan.
        let task = alone_task(&value.node, &work);
        let mut batch = [Claimed { node: Some(value.node.clone()), work: Some(work) }];
        return run_batch(&mut batch, std::slice::from_ref(&*task));
    }
    realise_all(std::slice::from_ref(value))
}

/// Runs what several values need, as one batch. Those that another thread has claimed are waited for.
pub fn realise_all(values: &[Value]) -> Result<()> {
    run_roots(values.iter().map(|v| v.node.clone()).collect())?;
    values.iter().try_for_each(|value| wait(&value.node))
}

/// How to wait without keeping a lock of the host language's; set by the Python layer.
pub type Waiting = fn(&mut (dyn FnMut() + Send));

static WAITING: OnceLock<Waiting> = OnceLock::new();

pub fn set_waiting(waiting: Waiting) {
    let _ = WAITING.set(waiting);
}

/// Waits until another thread has run a node, or runs it here if that thread was interrupted and has put
/// it back. Threads wait only for what was claimed before their own batch, so never for each other.
fn wait(node: &Arc<Node>) -> Result<()> {
    while !node.is_done() {
        if node.work.lock().is_some() {
            run_roots(vec![node.clone()])?;
            continue;
        }
        let mut nap = Duration::from_micros(20);
        let mut block = || {
            while !node.is_done() && node.work.lock().is_none() {
                std::thread::sleep(nap);
                nap = (nap * 2).min(Duration::from_millis(1));
            }
        };
        match WAITING.get() {
            Some(waiting) => waiting(&mut block),
            None => block(),
        }
    }
    Ok(())
}

/// Runs pending nodes and what they need. The roots are given up, so that being one does not make a
/// node visible.
pub fn run_roots(roots: Vec<Arc<Node>>) -> Result<()> {
    let mut batch = claim(roots);
    if batch.is_empty() {
        return Ok(());
    }
    let items = describe(&batch);
    let plan = CACHE.lock().plan(&items, fuse());
    run_batch(&mut batch, &plan.tasks)
}

/// Claims a node all of whose operands have run.
fn alone(node: &Arc<Node>) -> Option<Work> {
    let mut work = node.work.lock();
    let ready = work.as_ref()?.operands.iter().all(|operand| operand.value.node.is_done());
    if ready { work.take() } else { None }
}

/// Takes the pending nodes that `roots` need, in program order.
pub(super) fn claim(roots: Vec<Arc<Node>>) -> Vec<Claimed> {
    // Dropped after the lock is released: a last reference may run code of another library.
    let mut skipped: Vec<Arc<Node>> = vec![];
    let _claim = CLAIM.lock();
    let batch = BATCHES.fetch_add(1, Ordering::Relaxed) + 1;
    let mut found: Vec<Arc<Node>> = vec![];
    let mut rest = roots;
    while let Some(node) = rest.pop() {
        let seen = node.is_done() || node.mark.swap(batch << 32, Ordering::Relaxed) == batch << 32;
        let claimable = !seen && {
            let work = node.work.lock();
            let operands = work.iter().flat_map(|work| &work.operands).map(|o| &o.value.node);
            rest.extend(operands.filter(|n| !n.is_done()).cloned());
            work.is_some()
        };
        if claimable { found.push(node) } else { skipped.push(node) }
    }
    found.sort_unstable_by_key(|node| node.id);
    let mut claimed = Vec::with_capacity(found.len());
    for node in found {
        // `alone` claims without the lock above and may have been faster.
        let work = node.work.lock().take();
        if work.is_some() {
            node.mark.store(batch << 32 | claimed.len() as u64, Ordering::Relaxed);
            claimed.push(Claimed { node: Some(node), work });
        }
    }
    claimed
}

/// What the planner may know of the batch.
pub(super) fn describe(batch: &[Claimed]) -> Vec<Item> {
    // Strong references to each node from within the batch: one of its own, one an operand.
    let mut inside = vec![1usize; batch.len()];
    let mut places: FxHashMap<(*const Node, usize), SmallVec<[(&Arc<Layout>, u32); 2]>> =
        FxHashMap::with_capacity_and_hasher(2 * batch.len(), Default::default());
    let mut place_count = 0;
    let mut shapes: Vec<&Shape> = vec![];
    let mut items: Vec<Item> = Vec::with_capacity(batch.len());
    for claimed in batch {
        let work = claimed.work.as_ref().expect("claimed");
        let sources = work
            .operands
            .iter()
            .map(|operand| {
                let node = &operand.value.node;
                let seen = places.entry((Arc::as_ptr(node), operand.value.output)).or_default();
                let place = match seen.iter().find(|(layout, _)| **layout == operand.layout) {
                    Some((_, place)) => *place,
                    None => {
                        place_count += 1;
                        seen.push((&operand.layout, place_count));
                        place_count
                    }
                };
                // The mark of a node outside is stale and may point anywhere, so the node itself decides.
                let index = (node.mark.load(Ordering::Relaxed) & 0xffff_ffff) as usize;
                match batch.get(index).filter(|c| Arc::ptr_eq(c.node(), node)) {
                    Some(_) => {
                        inside[index] += 1;
                        Source::Inside { place, node: index as u32, whole: operand.is_whole() }
                    }
                    None => Source::Outside { place },
                }
            })
            .collect();
        let kind = kind_of(work, &claimed.node().outputs);
        let shape = match kind {
            Kind::Mapped { .. } => &work.operands[0].layout.shape,
            _ => &claimed.node().outputs[0].shape,
        };
        // Neighbours mostly share their shape, so the search from the end is short.
        let space = match shapes.iter().rposition(|s| *s == shape) {
            Some(space) => space,
            None => {
                shapes.push(shape);
                shapes.len() - 1
            }
        };
        items.push(Item { kind, sources, space: space as u32, visible: false });
    }
    for (item, (claimed, inside)) in items.iter_mut().zip(batch.iter().zip(inside)) {
        item.visible = Arc::strong_count(claimed.node()) > inside;
    }
    items
}

fn kind_of(work: &Work, outputs: &Specs) -> Kind {
    match &work.kernel {
        Kernel::Apply { op, dtype, args } => Kind::Apply {
            op: *op,
            dtype: *dtype,
            args: args
                .iter()
                .map(|arg| match arg {
                    Arg::Input(i) => PlanArg::Operand(*i),
                    Arg::Scalar(_) => PlanArg::Scalar,
                })
                .collect(),
        },
        Kernel::Cast => Kind::Cast { from: work.operands[0].dtype(), to: outputs[0].dtype },
        Kernel::Copy => Kind::Copy { dtype: outputs[0].dtype },
        Kernel::Fill(_) => Kind::Fill { dtype: outputs[0].dtype },
        Kernel::Reduce { .. } | Kernel::Moments { .. } | Kernel::Softmax { .. } => {
            Kind::Mapped { dtype: work.operands[0].dtype() }
        }
        Kernel::Matmul { .. } | Kernel::Conv { .. } => Kind::Product { dtype: outputs[0].dtype },
        _ => Kind::Other,
    }
}

/// The task of a node that runs by itself, from a memory of those made before.
fn alone_task(node: &Node, work: &Work) -> Arc<Task> {
    thread_local! {
        static TASKS: RefCell<FxHashMap<Item, Arc<Task>>> = RefCell::default();
    }
    let kind = kind_of(work, &node.outputs);
    if !kind.is_elementwise() {
        static NODE: LazyLock<Arc<Task>> = LazyLock::new(|| Arc::new(Task::Node(0)));
        return NODE.clone();
    }
    let place = |i: usize| {
        let same = |j: &usize| {
            work.operands[*j].layout == work.operands[i].layout
                && work.operands[*j].value.output == work.operands[i].value.output
                && Arc::ptr_eq(&work.operands[*j].value.node, &work.operands[i].value.node)
        };
        (0..i).find(same).unwrap_or(i) as u32
    };
    let sources = (0..work.operands.len()).map(|i| Source::Outside { place: place(i) }).collect();
    let item = Item { kind, sources, space: 0, visible: true };
    TASKS.with_borrow_mut(|tasks| match tasks.get(&item) {
        Some(task) => task.clone(),
        None => {
            let task =
                plan(std::slice::from_ref(&item), true).tasks.pop().expect("a visible node has a task");
            tasks.entry(item).or_insert(Arc::new(task)).clone()
        }
    })
}

/// Kernels run without asking for Ctrl-C at most this long.
const PATIENCE: Duration = Duration::from_millis(50);

/// Runs the tasks of a batch in order. Whatever happens, every claimed node is finished or pending
/// again afterwards, so that nobody waits for ever.
fn run_batch(batch: &mut [Claimed], tasks: &[Task]) -> Result<()> {
    let mut asked = Instant::now();
    for (n, task) in tasks.iter().enumerate() {
        if n > 0 && asked.elapsed() > PATIENCE {
            asked = Instant::now();
            if INTERRUPTED.get().is_some_and(|interrupted| interrupted()) {
                for claimed in batch {
                    if let Some(node) = &claimed.node {
                        *node.work.lock() = claimed.work.take();
                    }
                }
                return Err(Error::Interrupted);
            }
        }
        run_task(batch, task);
    }
    Ok(())
}

/// Runs one task and finishes its nodes, with their buffers or with the error.
fn run_task(batch: &mut [Claimed], task: &Task) {
    let (kernel, operands, outputs, line) = match task {
        Task::Node(node) => {
            let work = match &batch[*node].work {
                // Chains may still ask for the value.
                Some(Work { kernel: Kernel::Fill(value), .. }) => {
                    Work { kernel: Kernel::Fill(*value), operands: Operands::new(), line: None }
                }
                _ => batch[*node].work.take().expect("a task runs once"),
            };
            (work.kernel, work.operands, SmallVec::from_elem(*node, 1), work.line)
        }
        Task::Pointwise(chain) => {
            let (fused, operands) = bind(batch, chain, Operands::new());
            release(batch, chain);
            (Kernel::Pointwise(fused), operands, chain.outputs.iter().copied().collect(), None)
        }
        Task::Prologue { node, chain } => {
            let work = batch[*node].work.take().expect("a task runs once");
            let (fused, operands) = bind(batch, chain, Operands::new());
            release(batch, chain);
            drop(work.operands);
            (with_map(work.kernel, fused), operands, SmallVec::from_elem(*node, 1), work.line)
        }
        Task::Epilogue { node, chain } => {
            let work = batch[*node].work.take().expect("a task runs once");
            let (fused, operands) = bind(batch, chain, work.operands);
            release(batch, chain);
            (with_epilogue(work.kernel, fused), operands, chain.outputs.iter().copied().collect(), work.line)
        }
    };
    let outputs: SmallVec<[usize; 2]> = outputs;
    // A kernel of several outputs is one node; a chain of several outputs is several nodes.
    let specs: Specs = match &outputs[..] {
        [one] => batch[*one].node().outputs.clone(),
        many => many.iter().map(|&i| batch[i].node().outputs[0].clone()).collect(),
    };
    let device = batch[outputs[0]].node().device;
    let result = attempt(device, &kernel, &operands, &specs, line.as_ref())
        .map_err(|error| located(error, line.as_deref()));
    match (&outputs[..], result) {
        ([one], result) => batch[*one].finish(result),
        (many, Ok(buffers)) => {
            for (&i, buffer) in many.iter().zip(buffers) {
                batch[i].finish(Ok(Buffers::from_elem(buffer, 1)));
            }
        }
        (many, Err(error)) => many.iter().for_each(|&i| batch[i].finish(Err(error.clone()))),
    }
}

/// [`run_one`]; a panic, which is a fault of ours, is an error of that kernel alone.
fn attempt(
    device: Device,
    kernel: &Kernel,
    operands: &Operands,
    specs: &Specs,
    line: Option<&Arc<str>>,
) -> Result<Buffers> {
    catch_unwind(AssertUnwindSafe(|| run_one(device, kernel, operands, specs, line)))
        .unwrap_or_else(|_| Err(Error::Value(format!("{}: internal error; please report it", kernel.name()))))
}

/// Gets memory for the outputs and runs a kernel. Operands that nobody else holds give their memory.
fn run_one(
    device: Device,
    kernel: &Kernel,
    operands: &Operands,
    specs: &Specs,
    line: Option<&Arc<str>>,
) -> Result<Buffers> {
    let in_place = match kernel {
        Kernel::Pointwise(_) => specs.len(),
        Kernel::Assign { .. } => 1.min(specs.len()),
        _ => 0,
    };
    // The last output chooses first, among the last operands: where a weight is held elsewhere, an optimizer's
    // means stay where they are, and the weight alone moves.
    let mut donors: SmallVec<[(usize, usize); 4]> = SmallVec::new();
    for n in (0..in_place).rev() {
        donors.extend(donor(kernel, operands, &specs[n], &donors).map(|i| (n, i)));
    }
    let mut buffers = Buffers::new();
    for (n, spec) in specs.iter().enumerate() {
        buffers.push(match donors.iter().find(|(of, _)| *of == n) {
            Some(&(_, i)) => operands[i].value.ready().expect("operands have run")?.clone(),
            None => Arc::new(Buffer::alloc(device, spec.bytes())?),
        });
    }
    // Those that another thread has claimed may still be running there.
    operands.iter().try_for_each(|operand| wait(&operand.value.node))?;
    let mut inputs: SmallVec<[Input<'_>; 4]> = SmallVec::new();
    for operand in operands {
        inputs.push(Input::of(operand)?);
    }
    let start = profile::clock();
    run_kernel(device, kernel, &inputs, specs, &buffers, line)?;
    if let Some(start) = start {
        profile::note(start, device, kernel, operands, specs);
    }
    Ok(buffers)
}

/// An operand whose memory may become an output: of the same size, read from end to end, held by this
/// kernel alone, and given to no other output.
fn donor(kernel: &Kernel, operands: &Operands, spec: &Spec, taken: &[(usize, usize)]) -> Option<usize> {
    let candidates = if matches!(kernel, Kernel::Assign { .. }) { 1 } else { operands.len() };
    (0..candidates).rev().filter(|i| taken.iter().all(|(_, other)| other != i)).find(|&i| {
        let operand = &operands[i];
        operand.value.spec().bytes() == spec.bytes()
            && operand.dtype().size() == spec.dtype.size()
            && operand.is_whole()
            && Arc::strong_count(&operand.value.node) == 1
            && matches!(operand.value.ready(), Some(Ok(buffer)) if buffer.is_ours() && Arc::strong_count(buffer) == 1)
    })
}

/// The parameters of a chain: its scalars' values, and its operands after those in `first`.
fn bind(batch: &[Claimed], chain: &Chain, first: Operands) -> (Fused, Operands) {
    let work = |node: usize| batch[node].work.as_ref().expect("a chain's members run once");
    let mut operands = first;
    operands.extend(chain.inputs.iter().map(|r| work(r.node).operands[r.operand].clone()));
    let scalars: Scalars = chain
        .scalars
        .iter()
        .map(|r| match *r {
            ScalarRef::Arg { node, arg } => match &work(node).kernel {
                Kernel::Apply { args, .. } => match args[arg] {
                    Arg::Scalar(scalar) => scalar,
                    Arg::Input(_) => unreachable!("the structure says scalar"),
                },
                _ => unreachable!("only single operations have scalar arguments"),
            },
            ScalarRef::Fill { node } => match &work(node).kernel {
                Kernel::Fill(scalar) => *scalar,
                _ => unreachable!("the structure says fill"),
            },
        })
        .collect();
    (Fused { program: chain.program.clone(), scalars }, operands)
}

/// Drops what the members of a chain still had to do, and with it their hold on operands.
fn release(batch: &mut [Claimed], chain: &Chain) {
    for &member in &chain.members {
        batch[member].work = None;
    }
}

/// Puts the chain in the place of the kernel's identity map.
fn with_map(kernel: Kernel, map: Fused) -> Kernel {
    match kernel {
        Kernel::Reduce { op, axes, .. } => Kernel::Reduce { op, axes, map },
        Kernel::Moments { axes, .. } => Kernel::Moments { axes, map },
        Kernel::Softmax { log, .. } => Kernel::Softmax { log, map },
        other => unreachable!("{} takes no prologue", other.name()),
    }
}

fn with_epilogue(kernel: Kernel, epilogue: Fused) -> Kernel {
    match kernel {
        Kernel::Matmul { .. } => Kernel::Matmul { epilogue: Some(epilogue) },
        Kernel::Conv { conv, .. } => Kernel::Conv { conv, epilogue: Some(epilogue) },
        other => unreachable!("{} takes no epilogue", other.name()),
    }
}

/// The user's line, where it is known, at the end of the message.
fn located(error: Error, line: Option<&str>) -> Error {
    match (line, error) {
        (Some(line), Error::Index(message)) => Error::Index(format!("{message} (asked for at {line})")),
        (_, error) => error,
    }
}
