//! Planning: which pending nodes become one kernel. A pure function of structure (operations, edges,
//! dtypes, who else can see a node), never of sizes or scalar values, so its result is cached and the
//! second training step plans nothing. Nothing here touches data or devices.
//!
//! Nodes keep program order. Elementwise nodes of one iteration space join into one program; such a
//! program becomes the prologue of a reduction that alone reads it, or the epilogue of a product that
//! it alone reads. A node joins a group only if no path leaves the group and comes back; the groups of its
//! other operands then follow it, under the same condition.

mod builder;

use self::builder::Builder;
use crate::core::DType;
use crate::ir::{Elementwise, Program, Reg};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// Programs stay within what a GPU binds at once and what keeps a block's registers in L1.
const MAX_INPUTS: usize = 12;
const MAX_STEPS: usize = 64;
const MAX_OUTPUTS: usize = 4;

/// Where an operand of a node comes from. Operands that read the same elements in the same order have
/// the same `place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Something that has run, or that runs elsewhere.
    Outside { place: u32 },
    /// Another node of the batch; `whole` when read in order from end to end.
    Inside { place: u32, node: u32, whole: bool },
}

impl Source {
    fn place(self) -> u32 {
        match self {
            Source::Outside { place } | Source::Inside { place, .. } => place,
        }
    }
}

/// An argument of an elementwise node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanArg {
    Operand(u8),
    /// A scalar parameter; its value is not part of the structure.
    Scalar,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Apply {
        op: Elementwise,
        dtype: DType,
        args: SmallVec<[PlanArg; 3]>,
    },
    Cast {
        from: DType,
        to: DType,
    },
    Copy {
        dtype: DType,
    },
    /// A constant, which elementwise readers take as a scalar parameter.
    Fill {
        dtype: DType,
    },
    /// Takes a prologue on its only operand.
    Mapped {
        dtype: DType,
    },
    /// Takes an epilogue on its only output.
    Product {
        dtype: DType,
    },
    Other,
}

impl Kind {
    pub fn is_elementwise(&self) -> bool {
        matches!(self, Kind::Apply { .. } | Kind::Cast { .. } | Kind::Copy { .. })
    }
}

/// All that planning may know of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    pub kind: Kind,
    pub sources: SmallVec<[Source; 3]>,
    /// The shape over which the node iterates, by a number: equal shapes, equal numbers.
    pub space: u32,
    /// Whether anybody outside the batch holds the node.
    pub visible: bool,
}

/// The `operand`-th operand of the `node`-th item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperandRef {
    pub node: usize,
    pub operand: usize,
}

/// Where a scalar parameter's value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarRef {
    /// The n-th argument of an elementwise item.
    Arg { node: usize, arg: usize },
    /// The value of a `Fill` item.
    Fill { node: usize },
}

/// A program and where its parameters come from.
#[derive(Clone, Debug)]
pub struct Chain {
    pub program: Arc<Program>,
    pub inputs: Vec<OperandRef>,
    pub scalars: Vec<ScalarRef>,
    /// The items whose values are written, in the order of the program's outputs.
    pub outputs: Vec<usize>,
    /// All items of the chain.
    pub members: Vec<usize>,
}

/// One kernel to run.
#[derive(Clone, Debug)]
pub enum Task {
    /// The item's own kernel on its own operands.
    Node(usize),
    Pointwise(Chain),
    /// A reduction with its prologue; the chain has one output, which only this item reads.
    Prologue {
        node: usize,
        chain: Chain,
    },
    /// A product with its epilogue; the chain's input 0 is the product.
    Epilogue {
        node: usize,
        chain: Chain,
    },
}

#[derive(Debug, Default)]
pub struct Plan {
    pub tasks: Vec<Task>,
}

/// A set of small numbers.
#[derive(Clone, Default)]
struct Bits(SmallVec<[u64; 8]>);

impl Bits {
    fn insert(&mut self, i: usize) {
        if self.0.len() <= i / 64 {
            self.0.resize(i / 64 + 1, 0);
        }
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn remove(&mut self, i: usize) {
        if let Some(word) = self.0.get_mut(i / 64) {
            *word &= !(1 << (i % 64));
        }
    }

    fn contains(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
    }

    fn union(&mut self, other: &Bits) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }
}

/// A kernel in the making.
struct Group {
    /// In program order; none if another group has them now.
    members: Vec<usize>,
    elementwise: bool,
    space: u32,
    /// Groups that must run before this one, with all that must run before them.
    after: Bits,
}

struct Planner<'a> {
    items: &'a [Item],
    /// The group of each item.
    home: Vec<usize>,
    groups: Vec<Group>,
    readers: Vec<SmallVec<[usize; 4]>>,
    fuse: bool,
}

/// Plans a batch in program order, each node on its own when `fuse` is false.
pub fn plan(items: &[Item], fuse: bool) -> Plan {
    let mut readers = vec![SmallVec::<[usize; 4]>::new(); items.len()];
    for (i, item) in items.iter().enumerate() {
        for source in &item.sources {
            if let Source::Inside { node, .. } = *source
                && !readers[node as usize].contains(&i)
            {
                readers[node as usize].push(i);
            }
        }
    }
    let mut planner = Planner { items, home: vec![usize::MAX; items.len()], groups: vec![], readers, fuse };
    for i in 0..items.len() {
        planner.place(i);
    }
    planner.finish()
}

impl Planner<'_> {
    /// Whether item `i` is a constant that item `reader` takes as a scalar.
    fn is_scalar_for(&self, i: usize, reader: usize) -> bool {
        matches!(self.items[i].kind, Kind::Fill { .. }) && self.items[reader].kind.is_elementwise()
    }

    fn place(&mut self, i: usize) {
        let item = &self.items[i];
        let mut after = Bits::default();
        let mut near: SmallVec<[usize; 3]> = SmallVec::new();
        for source in &item.sources {
            let Source::Inside { node, whole, .. } = *source else { continue };
            let node = node as usize;
            if self.fuse && self.is_scalar_for(node, i) {
                continue;
            }
            let home = self.home[node];
            after.insert(home);
            let from = self.groups[home].after.clone();
            after.union(&from);
            let group = &self.groups[home];
            if whole && group.elementwise && group.space == item.space && !near.contains(&home) {
                near.push(home);
            }
        }
        if self.fuse && item.kind.is_elementwise() {
            // The latest group first: it holds the nearest producer.
            near.sort_unstable_by(|a, b| b.cmp(a));
            if let Some(n) = near.iter().position(|&home| self.can_join(home, i, &after)) {
                self.join(near[n], i, after);
                for &other in near.iter().skip(n + 1) {
                    self.merge(near[n], other);
                }
                return;
            }
        }
        self.home[i] = self.groups.len();
        let elementwise = item.kind.is_elementwise();
        self.groups.push(Group { members: vec![i], elementwise, space: item.space, after });
    }

    /// Whether item `i`, which needs the groups in `after`, may join group `home`: none of those may
    /// itself need the group, no member may be read out of order, and the program must stay small.
    fn can_join(&self, home: usize, i: usize, after: &Bits) -> bool {
        let out_of_order = self.items[i].sources.iter().any(|source| match *source {
            Source::Inside { node, whole, .. } => !whole && self.home[node as usize] == home,
            Source::Outside { .. } => false,
        });
        if out_of_order {
            return false;
        }
        let leaves_and_returns = (0..self.groups.len())
            .any(|g| g != home && after.contains(g) && self.groups[g].after.contains(home));
        if leaves_and_returns {
            return false;
        }
        let mut members = self.groups[home].members.clone();
        members.push(i);
        self.is_small(&members)
    }

    fn join(&mut self, home: usize, i: usize, mut after: Bits) {
        self.home[i] = home;
        after.remove(home);
        self.groups[home].members.push(i);
        self.groups[home].after.union(&after);
        for group in &mut self.groups {
            if group.after.contains(home) {
                group.after.union(&after);
            }
        }
    }

    /// Makes group `other`, whose values group `home` reads, part of it, if nothing stands between the two, no
    /// member is read out of order, and the program stays small.
    fn merge(&mut self, home: usize, other: usize) {
        let mut after = self.groups[home].after.clone();
        after.union(&self.groups[other].after);
        let between = (0..self.groups.len()).any(|g| {
            let group = &self.groups[g].after;
            g != home && g != other && after.contains(g) && (group.contains(home) || group.contains(other))
        });
        let mut members = [&self.groups[home].members[..], &self.groups[other].members[..]].concat();
        members.sort_unstable();
        let out_of_order = members.iter().flat_map(|&i| &self.items[i].sources).any(|source| match *source {
            Source::Inside { node, whole, .. } => !whole && members.contains(&(node as usize)),
            Source::Outside { .. } => false,
        });
        if between || out_of_order || !self.is_small(&members) {
            return;
        }
        for &i in &self.groups[other].members {
            self.home[i] = home;
        }
        after.remove(home);
        after.remove(other);
        for group in &mut self.groups {
            if group.after.contains(other) {
                group.after.remove(other);
                group.after.insert(home);
            }
            if group.after.contains(home) {
                group.after.union(&after);
            }
        }
        self.groups[home].members = members;
        self.groups[home].after = after;
        let left = &mut self.groups[other];
        (left.members, left.after, left.elementwise) = (vec![], Bits::default(), false);
    }

    fn is_small(&self, members: &[usize]) -> bool {
        let chain = self.chain(members, None);
        members.len() <= MAX_STEPS
            && chain.inputs.len() <= MAX_INPUTS
            && chain.program.outputs.len() <= MAX_OUTPUTS + 1
    }

    /// Whether anybody but `members` needs the value of member `i`.
    fn escapes(&self, i: usize, members: &[usize]) -> bool {
        self.items[i].visible || self.readers[i].iter().any(|r| !members.contains(r))
    }

    /// The program of a group of elementwise items; `product` is read as input 0 where it is given.
    fn chain(&self, members: &[usize], product: Option<usize>) -> Chain {
        let mut builder = Builder::new(self);
        if let Some(node) = product {
            let Kind::Product { dtype } = self.items[node].kind else {
                unreachable!("products have an epilogue")
            };
            builder.program.inputs.push(dtype);
            builder.regs.insert(node, Reg::Input(0));
        }
        for &i in members {
            builder.add(i);
        }
        let outputs: Vec<usize> = members.iter().copied().filter(|&i| self.escapes(i, members)).collect();
        let Builder { mut program, inputs, scalars, regs, .. } = builder;
        program.outputs = outputs.iter().map(|i| regs[i]).collect();
        Chain { program: Arc::new(program), inputs, scalars, outputs, members: members.to_vec() }
    }

    /// Absorbs chains into products and reductions, and puts the groups in an order that runs.
    fn finish(mut self) -> Plan {
        let count = self.groups.len();
        // What a group was absorbed into, and for a host which group it absorbed.
        let mut absorbed = vec![false; count];
        let mut epilogue: Vec<Option<usize>> = vec![None; count];
        let mut prologue: Vec<Option<usize>> = vec![None; count];
        if self.fuse {
            for g in 0..count {
                let [i] = self.groups[g].members[..] else { continue };
                match self.items[i].kind {
                    Kind::Product { .. } if !self.items[i].visible => {
                        if let Some(host) = self.epilogue_of(i)
                            && epilogue[host].is_none()
                        {
                            epilogue[host] = Some(i);
                            absorbed[g] = true;
                        }
                    }
                    Kind::Mapped { .. } => {
                        if let Some(chain) = self.prologue_of(i)
                            && epilogue[chain].is_none()
                            && !absorbed[chain]
                        {
                            prologue[g] = Some(chain);
                            absorbed[chain] = true;
                        }
                    }
                    _ => {}
                }
            }
        }
        let order = self.order(&absorbed, &prologue, &epilogue);
        let mut plan = Plan::default();
        for g in order {
            let members = std::mem::take(&mut self.groups[g].members);
            let task = if let Some(chain) = prologue[g] {
                let chain = std::mem::take(&mut self.groups[chain].members);
                Task::Prologue { node: members[0], chain: self.chain(&chain, None) }
            } else if let Some(node) = epilogue[g] {
                Task::Epilogue { node, chain: self.chain(&members, Some(node)) }
            } else if self.groups[g].elementwise && self.fuse {
                let chain = self.chain(&members, None);
                if chain.outputs.is_empty() { continue } else { Task::Pointwise(chain) }
            } else if self.fuse && self.is_only_scalar(members[0]) {
                continue;
            } else if self.groups[g].elementwise {
                Task::Pointwise(self.unfused(members[0]))
            } else {
                Task::Node(members[0])
            };
            plan.tasks.push(task);
        }
        plan
    }

    /// One elementwise item as a program of its own, constants read from memory.
    fn unfused(&self, i: usize) -> Chain {
        let mut chain = self.chain(&[i], None);
        chain.outputs = vec![i];
        chain
    }

    /// Whether `i` is a constant that nobody reads as memory.
    fn is_only_scalar(&self, i: usize) -> bool {
        matches!(self.items[i].kind, Kind::Fill { .. })
            && !self.items[i].visible
            && self.readers[i].iter().all(|&r| self.is_scalar_for(i, r))
    }

    /// The elementwise group that alone reads product `i`, in order and in its shape, and writes one
    /// tensor.
    fn epilogue_of(&self, i: usize) -> Option<usize> {
        let (&first, rest) = self.readers[i].split_first()?;
        let host = self.home[first];
        let group = &self.groups[host];
        let fits = group.elementwise
            && group.space == self.items[i].space
            && rest.iter().all(|&r| self.home[r] == host)
            && self.readers[i].iter().all(|&r| self.reads_whole(r, i))
            && self.outputs(host) == 1;
        fits.then_some(host)
    }

    /// The elementwise group whose single tensor only reduction `i` reads, in order.
    fn prologue_of(&self, i: usize) -> Option<usize> {
        let Source::Inside { node, whole: true, .. } = self.items[i].sources[0] else { return None };
        let node = node as usize;
        let chain = self.home[node];
        let fits = self.groups[chain].elementwise
            && self.groups[chain].space == self.items[i].space
            && !self.items[node].visible
            && self.readers[node][..] == [i]
            && self.outputs(chain) == 1
            && !self.chain(&self.groups[chain].members, None).inputs.is_empty();
        fits.then_some(chain)
    }

    fn reads_whole(&self, reader: usize, i: usize) -> bool {
        self.items[reader].sources.iter().all(|s| match *s {
            Source::Inside { node, whole, .. } if node as usize == i => whole,
            _ => true,
        })
    }

    fn outputs(&self, group: usize) -> usize {
        let members = &self.groups[group].members;
        members.iter().filter(|&&i| self.escapes(i, members)).count()
    }

    /// Groups so that each comes after what it needs, by program order of the last member otherwise.
    fn order(&self, absorbed: &[bool], prologue: &[Option<usize>], epilogue: &[Option<usize>]) -> Vec<usize> {
        let count = self.groups.len();
        // An absorbed group runs where its host runs.
        let mut place: Vec<usize> = (0..count).collect();
        for g in 0..count {
            if let Some(chain) = prologue[g] {
                place[chain] = g;
            }
            if let Some(product) = epilogue[g] {
                place[self.home[product]] = g;
            }
        }
        let mut needs: Vec<SmallVec<[usize; 4]>> = vec![SmallVec::new(); count];
        let mut dependents: Vec<SmallVec<[usize; 4]>> = vec![SmallVec::new(); count];
        for (i, item) in self.items.iter().enumerate() {
            for source in &item.sources {
                let Source::Inside { node, .. } = *source else { continue };
                let (from, to) = (place[self.home[node as usize]], place[self.home[i]]);
                if from != to && !needs[to].contains(&from) {
                    needs[to].push(from);
                    dependents[from].push(to);
                }
            }
        }
        let rank =
            |g: usize| std::cmp::Reverse((*self.groups[g].members.last().expect("groups are not empty"), g));
        let mut missing: Vec<usize> = needs.iter().map(|n| n.len()).collect();
        let mut heap: std::collections::BinaryHeap<_> = (0..count)
            .filter(|&g| missing[g] == 0 && !absorbed[g] && !self.groups[g].members.is_empty())
            .map(rank)
            .collect();
        let mut order = Vec::with_capacity(count);
        while let Some(std::cmp::Reverse((_, g))) = heap.pop() {
            order.push(g);
            for &next in &dependents[g] {
                missing[next] -= 1;
                if missing[next] == 0 {
                    heap.push(rank(next));
                }
            }
        }
        order
    }
}

/// Plans by structure, least recently used ones forgotten.
#[derive(Default)]
pub struct Cache {
    plans: FxHashMap<Vec<Item>, (Arc<Plan>, u64)>,
    clock: u64,
}

/// Plans kept; a training program has a handful.
const MAX_PLANS: usize = 256;

impl Cache {
    pub fn plan(&mut self, items: &[Item], fuse: bool) -> Arc<Plan> {
        self.clock += 1;
        if let Some((plan, used)) = self.plans.get_mut(items) {
            *used = self.clock;
            return plan.clone();
        }
        let plan = Arc::new(plan(items, fuse));
        if self.plans.len() >= MAX_PLANS {
            let mut ages: Vec<u64> = self.plans.values().map(|(_, used)| *used).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            self.plans.retain(|_, (_, used)| *used > middle);
        }
        self.plans.insert(items.to_vec(), (plan.clone(), self.clock));
        plan
    }
}

#[cfg(test)]
mod tests;
