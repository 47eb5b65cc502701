//! Two machines: network namespaces of this one, each with an address and a name of its own, and a cable between them.
//!
//! Wants root, and `ip` of iproute2; without, these tests say that they are left out. Nothing leaves the namespaces.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use smallfry_tests::golden::repository;
use tempfile::TempDir;

use crate::{
    job::{DEADLINE, Job, process as process_of, program},
    place::{FILE, Place},
};

/// Where the two are.
const ADDRESSES: [&str; 2] = ["10.77.4.1", "10.77.4.2"];
/// All of them.
const NETWORK: &str = "10.77.4.0/24";

/// Two machines.
struct Hosts {
    /// Names of the namespaces; those of the cable's ends are the same.
    names: [String; 2],
    files: TempDir,
}

impl Hosts {
    /// None, and a word to the user, where this process may not make them.
    fn new() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let names = [0, 1].map(|host| format!("sf{}h{}", process::id(), 2 * number + host));
        let files = tempfile::tempdir().unwrap();
        let hosts = Self { names, files };
        match hosts.connect() {
            Ok(()) => {
                hosts.write_agent();
                Some(hosts)
            }
            Err(reason) => {
                // Tests that succeed have what they print kept from the user, but not this.
                let told = format!("LEFT OUT: a training over two machines: {reason}\n");
                io::stderr().write_all(told.as_bytes()).unwrap();
                None
            }
        }
    }

    fn connect(&self) -> Result<(), String> {
        let [first, second] = self.names.each_ref().map(String::as_str);
        for name in [first, second] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        let cable = ["link", "add", first, "netns", first, "type", "veth"];
        ip(&[&cable[..], &["peer", "name", second, "netns", second]].concat())?;
        for (name, address) in [first, second].into_iter().zip(ADDRESSES) {
            let address = format!("{address}/24");
            ip(&["-n", name, "addr", "add", &address, "dev", name])?;
            ip(&["-n", name, "link", "set", name, "up"])?;
        }
        Ok(())
    }

    /// What takes the place of `ssh`: it is given options, an address, and what to call there.
    fn write_agent(&self) {
        let [first, second] = &self.names;
        let [here, there] = ADDRESSES;
        let text = format!(
            "#!/bin/sh
while [ \"${{1#-}}\" != \"$1\" ]; do shift; done
case $1 in {here}) name={first} ;; {there}) name={second} ;; esac
shift
exec ip netns exec $name unshare --uts sh -c \"hostname $name; $*\"
"
        );
        fs::write(self.agent(), text).unwrap();
        fs::set_permissions(self.agent(), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn agent(&self) -> PathBuf {
        self.files.path().join("agent")
    }

    /// Starts two processes of the program on the first machine or, where there are `two`, one on each.
    fn start(&self, place: &Place, two: bool, arguments: &[&str]) -> Job {
        let [here, there] = ADDRESSES;
        let hosts = match two {
            true => format!("{here}:1,{there}:1"),
            false => format!("{here}:2"),
        };
        let first = &self.names[0];
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", first, "unshare", "--uts", "sh", "-c"])
            .arg(format!("hostname {first}; exec \"$@\""))
            .args(["sh", "mpirun", "-n", "2", "--host", &hosts])
            .args(["--mca", "plm_rsh_agent"])
            .arg(self.agent())
            .args(["--mca", "oob_tcp_if_include", NETWORK])
            .args(["--mca", "btl_tcp_if_include", NETWORK])
            .args(keepalive())
            .arg(program("whole"))
            .args(["run", FILE, "--threads", "1"])
            .args(arguments)
            .current_dir(place.path());
        Job::start(&mut command, &[])
    }

    /// Pulls the cable.
    fn cut(&self) {
        let name = &self.names[0];
        ip(&["-n", name, "link", "set", name, "down"]).unwrap();
    }
}

impl Drop for Hosts {
    /// Nothing is left on them, also where a test failed and nothing can be said to the second.
    fn drop(&mut self) {
        for name in &self.names {
            let processes = ip(&["netns", "pids", name]).unwrap_or_default();
            for process in processes.split_whitespace() {
                let _ = Command::new("kill").args(["-s", "KILL", process]).status();
            }
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Calls `ip`; what it says.
fn ip(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The settings by which the document has `mpirun` notice that a machine is gone, but for a shorter time.
fn keepalive() -> Vec<String> {
    let text = fs::read_to_string(repository().join("docs/distributed.md")).unwrap();
    let line = text.lines().find(|line| line.contains("keepalive_time"));
    let line = line.expect("the document has them");
    let words = line.trim_end_matches('\\').split_whitespace();
    let words: Vec<_> = words
        .map(|word| match word.parse::<u32>() {
            Ok(seconds) => (seconds / 10).max(1).to_string(),
            Err(_) => word.to_owned(),
        })
        .collect();
    assert_eq!(words.len(), 9, "{words:?}");
    words
}

/// The network namespace of a process.
fn network(process: u32) -> PathBuf {
    fs::read_link(format!("/proc/{process}/ns/net")).unwrap()
}

/// The two processes of a training that has begun, each on a machine of its own.
fn apart(job: &mut Job, place: &Place) -> [u32; 2] {
    job.meanwhile(|| place.state());
    let processes = [0, 1].map(|rank| process_of(&place.path(), rank).expect("it trains"));
    let [first, second] = processes.map(network);
    assert_ne!(first, second);
    processes
}

#[test]
fn two_machines_come_to_what_one_process_does() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new(2);
    let mut job = hosts.start(&place, true, &[]);
    apart(&mut job, &place);
    let outcome = job.end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    place.assert_as_alone(2);
}

#[test]
fn a_machine_that_cannot_be_reached_ends_the_job_and_one_goes_on() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new(2);
    let mut job = hosts.start(&place, true, &[]);
    let [_, second] = apart(&mut job, &place);
    hosts.cut();
    let outcome = job.end();
    assert!(!matches!(outcome.code, Some(0 | 2)), "{outcome:?}");
    assert!(!place.root().join("results.json").exists());
    let begin = Instant::now();
    while Path::new("/proc").join(second.to_string()).exists() {
        assert!(begin.elapsed() < DEADLINE, "the other machine's hangs");
        thread::sleep(Duration::from_millis(10));
    }
    let outcome = hosts.start(&place, false, &["--resume"]).end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    place.assert_as_alone(2);
    assert_eq!(place.receipt()["resumed"], true);
}
