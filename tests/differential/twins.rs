//! The live program and the model, side by side.

use std::fmt::Write as _;

use forebay_tests::engine::{Engine, Keys, Live, Model, Outcome, Retire};
use forebay_tests::frame::decode;
use forebay_tests::network::plan::Link;
use forebay_tests::world::{Flows, World};

/// Frames between two comparisons of all tables; in between only what changed is compared.
const FULL_COMPARISON: u32 = 16;

/// What two outcomes, of the kernel and of the model, have different; empty when nothing.
pub(crate) fn differences(outcomes: &[Outcome; 2]) -> String {
    let [kernel, model] = outcomes;
    let mut text = String::new();
    if (kernel.action, &kernel.counted) != (model.action, &model.counted) {
        writeln!(
            text,
            "  kernel: {:?} as {:?}, model: {:?} as {:?}",
            kernel.action, kernel.counted, model.action, model.counted
        )
        .expect("a string takes any text");
    }
    if kernel.frame != model.frame {
        writeln!(
            text,
            "  kernel made {}\n  model made {}",
            decode(&kernel.frame),
            decode(&model.frame)
        )
        .expect("a string takes any text");
    }
    text
}

/// Both, with the same tables.
pub(crate) struct Twins<'l> {
    live: &'l mut Live,
    model: Model,
    /// The flows before the next frame.
    flows: Flows,
    frames: u32,
}

impl<'l> Twins<'l> {
    /// Both with the tables of a world.
    pub(crate) fn new(live: &'l mut Live, world: &World) -> Self {
        live.load(world);
        let model = Model::of(world);
        let flows = model.flows();
        Self {
            live,
            model,
            flows,
            frames: 0,
        }
    }

    /// The flows of both.
    pub(crate) fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Changes everything but flows and counters.
    pub(crate) fn configure(&mut self, world: &World) {
        self.live.configure(world);
        self.model.configure(world);
    }

    /// Sets the time.
    pub(crate) fn set_now(&mut self, now: u64) {
        self.live.set_now(now);
        self.model.set_now(now);
    }

    /// Runs a frame through both.
    ///
    /// # Errors
    /// What is different.
    pub(crate) fn run(&mut self, frame: &[u8], ingress: &Link) -> Result<Outcome, String> {
        let outcomes = [
            self.live.run(frame, ingress),
            self.model.run(frame, ingress),
        ];
        let mut text = differences(&outcomes);
        self.frames += 1;
        text += &if self.frames.is_multiple_of(FULL_COMPARISON) {
            self.compare_all()
        } else {
            self.compare_changes()
        };
        let [kernel, _] = outcomes;
        if text.is_empty() {
            Ok(kernel)
        } else {
            Err(text)
        }
    }

    /// Takes a step of the sweep in both, for every flow.
    ///
    /// # Errors
    /// What is different.
    pub(crate) fn retire(&mut self, step: Retire) -> Result<(), String> {
        let keys = Keys::of(&self.flows);
        let done = [
            self.live.retire(step, &keys),
            self.model.retire(step, &keys),
        ];
        let mut text = self.compare_all();
        if done[0] != done[1] {
            writeln!(text, "  {step:?}: {done:?}").expect("a string takes any text");
        }
        if text.is_empty() { Ok(()) } else { Err(text) }
    }

    /// Compares the entries that have changed in the model, and the counters.
    fn compare_changes(&mut self) -> String {
        let after = self.model.flows();
        let mut changed = Keys {
            v4: changed_keys(&self.flows.v4, &after.v4),
            v6: changed_keys(&self.flows.v6, &after.v6),
        };
        let (before, now) = (&self.flows.slots, &after.slots);
        changed.v4.extend(changed_keys(&before.0, &now.0));
        changed.v6.extend(changed_keys(&before.1, &now.1));
        let of_model = after.chosen(&changed);
        self.flows = after;
        let text = self.live.look_up(&changed).full_difference(&of_model);
        text + &self.compare_counters()
    }

    /// Compares all entries and the counters.
    pub(crate) fn compare_all(&mut self) -> String {
        self.flows = self.model.flows();
        let mut text = self.live.flows().full_difference(&self.flows);
        let (counted, found) = (self.live.occupied(), self.flows.trusted());
        if counted != found.map(|entries| entries as u64) {
            writeln!(text, "  counted {counted:?} entries, found {found:?}")
                .expect("a string takes any text");
        }
        let trials = [self.live.trials(), self.model.trials()];
        if trials[0] != trials[1] {
            writeln!(text, "  trials of kernel and model: {trials:?}")
                .expect("a string takes any text");
        }
        text + &self.compare_counters()
    }

    fn compare_counters(&self) -> String {
        let counters = [self.live.rule_counters(), self.model.rule_counters()];
        if counters[0] == counters[1] {
            return String::new();
        }
        format!("  rule counters of kernel and model: {counters:#?}\n")
    }
}

type Table<K, V> = std::collections::BTreeMap<K, V>;

/// Keys under which two tables differ.
fn changed_keys<K: Ord + Copy, V: PartialEq>(before: &Table<K, V>, after: &Table<K, V>) -> Vec<K> {
    let gone = before.keys().filter(|key| !after.contains_key(key));
    let new = after
        .iter()
        .filter(|(key, value)| before.get(key) != Some(value))
        .map(|(key, _)| key);
    gone.chain(new).copied().collect()
}
