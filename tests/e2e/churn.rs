//! Members come, go and change their weight ten times a second, under load: no connection notices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay_tests::chance::{Chance, seed};
use forebay_tests::netlab::client::{Answer, Conversation};
use forebay_tests::netlab::config::Instance;
use forebay_tests::netlab::{Arms, Config, Forebay, Lab};

use crate::scene::{Scene, frontend};
use crate::short::{A_SECOND, Short, meanwhile, percent, times};
use crate::under_load::OnDrop;

/// How long members change, and how often.
const MINUTE: Duration = Duration::from_secs(60);
const EACH: Duration = Duration::from_millis(100);
const CHANGES: usize = (MINUTE.as_millis() / EACH.as_millis()) as usize;
/// Connections that live through all of it, of each family.
const LONG: usize = 100;
/// How often each of them is used.
const PAUSE: Duration = Duration::from_secs(2);
/// Addresses that each machine has besides its own: all of them may be members.
const MORE: u8 = 3;
/// The fewest members.
const FEWEST: usize = 3;
const HEAVIEST: u64 = 4;

/// Gives the machines more addresses, and the configuration an instance for each.
fn multiply(lab: &Lab, config: &mut Config) {
    for (number, machine) in (1_u8..).zip(&lab.instances) {
        for copy in 1..=MORE {
            let host = copy * 10 + 10 + number;
            let ipv4 = [10, 0, 1, host].into();
            let ipv6 = [0xfd00, 1, 0, 0, 0, 0, 0, u16::from(host)].into();
            let addresses =
                format!("address add {ipv4}/24 dev eth0\naddress add {ipv6}/64 dev eth0 nodad");
            machine.namespace.ip(&addresses).unwrap();
            config.instances.push(Instance {
                name: format!("{}-{copy}", machine.name),
                ipv4,
                ipv6,
                public_ip: None,
            });
        }
    }
    config.pools[0].members = (config.instances.iter())
        .map(|instance| (instance.name.clone(), 1))
        .collect();
}

/// Who was a member when.
struct Epoch {
    since: Instant,
    until: Instant,
    members: BTreeSet<IpAddr>,
}

fn members(config: &Config) -> BTreeSet<IpAddr> {
    let is_member = |instance: &&Instance| {
        let mut members = config.pools[0].members.iter();
        members.any(|(name, _)| *name == instance.name)
    };
    let instances = config.instances.iter().filter(is_member);
    instances
        .flat_map(|one| [IpAddr::from(one.ipv4), IpAddr::from(one.ipv6)])
        .collect()
}

/// What was done to the members.
#[derive(Default)]
struct Changes {
    added: usize,
    removed: usize,
    reweighted: usize,
    /// How long each took to be in force, the shortest first.
    took: Vec<Duration>,
    epochs: Vec<Epoch>,
}

impl Changes {
    /// Adds a member, removes one or gives one another weight.
    fn make(&mut self, config: &mut Config, chance: &mut Chance) {
        let names: Vec<String> = config
            .instances
            .iter()
            .map(|one| one.name.clone())
            .collect();
        let members = &mut config.pools[0].members;
        let name = chance.pick(&names);
        let place = members.iter().position(|(member, _)| member == name);
        let weight = chance.within(1, HEAVIEST) as u16;
        match place {
            None => {
                members.push((name.clone(), weight));
                self.added += 1;
            }
            Some(place) if members.len() > FEWEST && chance.one_in(2) => {
                members.remove(place);
                self.removed += 1;
            }
            Some(place) => {
                let had = &mut members[place].1;
                *had = if *had == weight {
                    weight % 4 + 1
                } else {
                    weight
                };
                self.reweighted += 1;
            }
        }
    }
}

/// Changes the members for a minute; they are as they are `since` then.
fn churn(
    forebay: &Forebay,
    config: &mut Config,
    chance: &mut Chance,
    mut since: Instant,
) -> Changes {
    let mut changes = Changes::default();
    let begin = Instant::now();
    while begin.elapsed() < MINUTE {
        let former = members(config);
        let started = Instant::now();
        changes.make(config, chance);
        forebay.write_config(&config.to_string()).unwrap();
        let printed = forebay.text(&["reload"]).unwrap();
        assert!(printed.contains("pool"), "the pool has changed: {printed}");
        let until = Instant::now();
        changes.took.push(until - started);
        changes.epochs.push(Epoch {
            since,
            until,
            members: former,
        });
        since = started;
        // What is late stays late: a change that could not be made is not made up for.
        let ticks = begin.elapsed().as_millis() / EACH.as_millis() + 1;
        std::thread::sleep((EACH * ticks as u32).saturating_sub(begin.elapsed()));
    }
    changes.epochs.push(Epoch {
        since,
        until: Instant::now() + MINUTE,
        members: members(config),
    });
    changes.took.sort();
    changes
}

/// A connection that stays with whom it has.
struct Long {
    conversation: Conversation,
    first: Answer,
    asked: usize,
}

impl Long {
    fn open(lab: &Lab, to: SocketAddr) -> Self {
        let (conversation, first) = Conversation::open(&lab.client, None, to).unwrap();
        Self {
            conversation,
            first,
            asked: 0,
        }
    }

    fn ask(&mut self) -> Result<()> {
        let source = self.conversation.source()?;
        let answer = (self.conversation.ask())
            .with_context(|| format!("the long connection of {source} to {}", self.first.server))?;
        ensure!(
            answer == self.first,
            "{source}: {answer:?}, {:?}",
            self.first
        );
        self.asked += 1;
        Ok(())
    }
}

/// Uses all of them every now and then, until it is over.
fn talk(long: &mut [Long], is_over: impl Fn() -> bool) -> Result<()> {
    let pause = PAUSE / long.len() as u32;
    while !is_over() {
        for one in &mut *long {
            one.ask()?;
            std::thread::sleep(pause);
        }
    }
    Ok(())
}

/// All were answered by somebody who was a member meanwhile.
fn went_to_members(short: &[Short], epochs: &[Epoch]) {
    for one in short {
        let first = epochs.partition_point(|epoch| epoch.until < one.from);
        let mut meanwhile = epochs[first..]
            .iter()
            .take_while(|epoch| epoch.since <= one.to);
        assert!(
            meanwhile.any(|epoch| epoch.members.contains(&one.server)),
            "a new connection went to {}, who was no member then",
            one.server
        );
    }
}

/// Says what was done, and refuses to call it a test if that was too little.
fn account(changes: &Changes, long: &[Long], short: &[Short]) {
    let took = &changes.took;
    println!(
        "{} of {CHANGES} changes: {} added, {} removed, {} reweighted; a change took {:?}, 99 % at most {:?}, \
         the longest {:?}",
        took.len(),
        changes.added,
        changes.removed,
        changes.reweighted,
        percent(took, 50),
        percent(took, 99),
        percent(took, 100)
    );
    let lasted = times(short);
    let asked: Vec<usize> = long.iter().map(|one| one.asked).collect();
    println!(
        "{} long connections, used {} times; {} short ones, {} a second: half took {:?}, 99 % at most {:?}, \
         the longest {:?}",
        long.len(),
        asked.iter().sum::<usize>(),
        short.len(),
        short.len() as u64 / MINUTE.as_secs(),
        percent(&lasted, 50),
        percent(&lasted, 99),
        percent(&lasted, 100)
    );
    let wanted = A_SECOND as usize * MINUTE.as_secs() as usize;
    let is_slow = |did: usize, wanted: usize, part| did < wanted / part;
    let tell = format!(
        "this machine, or the daemon, is too slow: {} changes of {CHANGES}, {} short connections of {wanted}",
        took.len(),
        short.len()
    );
    // Where others use the machine too, some of them are missing.
    assert!(
        !is_slow(took.len(), CHANGES, 4) && !is_slow(short.len(), wanted, 2),
        "{tell}"
    );
    if is_slow(took.len(), CHANGES, 2) {
        println!("!!! {tell}");
    }
    assert!(asked.iter().all(|times| *times >= 10), "{asked:?}");
}

#[test]
fn members_that_come_and_go_ten_times_a_second_break_no_connection() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    multiply(&scene.lab, &mut scene.config);
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    scene.forebay.start().unwrap();
    let seed = seed();
    println!("SEED={seed}");
    let Scene {
        lab,
        forebay,
        config,
        ..
    } = &mut scene;
    let (lab, forebay) = (&*lab, &*forebay);
    let mut long =
        frontend(80).map(|to| (0..LONG).map(|_| Long::open(lab, to)).collect::<Vec<_>>());
    let since = Instant::now();
    let (changes, short) = meanwhile(lab, || {
        let over = AtomicBool::new(false);
        let is_over = || over.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let talkers = long
                .each_mut()
                .map(|some| scope.spawn(move || talk(some, is_over)));
            let ends = OnDrop(&over);
            let changes = churn(forebay, config, &mut Chance::new(seed), since);
            drop(ends);
            for one in talkers {
                one.join().unwrap().unwrap();
            }
            changes
        })
    });
    let long = long.into_iter().flatten().collect::<Vec<_>>();
    account(&changes, &long, &short);
    went_to_members(&short, &changes.epochs);
    let mut answers: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for one in &short {
        *answers.entry(one.server).or_default() += 1;
    }
    assert_eq!(answers.len(), 2 * config.instances.len(), "{answers:?}");
}
