//! Network namespaces of the run's own, one for each node: what is lost and what waits there, the kernel loses and holds.

use std::fs;
use std::io;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// What every name begins with, before the process's and a number.
const NAME: &str = "bulla-soak";

/// A namespace with one line to this machine.
pub(super) struct Namespace {
    name: String,
    /// This machine's end of the line.
    pub(super) here: Ipv4Addr,
    /// The other end.
    pub(super) there: Ipv4Addr,
}

/// What this kernel can do to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// It has netem: loss and delay.
    Netem,
    /// It has none: loss by nftables, and delay by a queue before a narrow line (tbf).
    Substitute,
}

impl Namespace {
    /// Makes one, and the line to it. The addresses are those for benchmarks of networks (RFC 2544), which nobody else
    /// uses.
    ///
    /// # Errors
    ///
    /// If this machine does not do it: it takes root, and a kernel with network namespaces and veth.
    pub(super) fn new(number: u8) -> io::Result<Self> {
        let process = std::process::id();
        let there = Ipv4Addr::new(198, 18, process.to_le_bytes()[0], number * 4 + 2);
        let namespace = Self {
            name: format!("{NAME}-{process}-{number}"),
            here: Ipv4Addr::new(198, 18, process.to_le_bytes()[0], number * 4 + 1),
            there,
        };
        let name = &*namespace.name;
        let here = namespace.outer();
        ask("ip", &["netns", "add", name])?;
        ask(
            "ip",
            &[
                "link", "add", &here, "type", "veth", "peer", "name", "soak", "netns", name,
            ],
        )?;
        ask(
            "ip",
            &[
                "addr",
                "add",
                &format!("{}/30", namespace.here),
                "dev",
                &here,
            ],
        )?;
        ask("ip", &["link", "set", &here, "up"])?;
        let address = format!("{there}/30");
        for inside in [
            &["addr", "add", &address, "dev", "soak"][..],
            &["link", "set", "soak", "up"],
            &["link", "set", "lo", "up"],
        ] {
            namespace.ask("ip", inside)?;
        }
        Ok(namespace)
    }

    /// Removes those of processes that are gone.
    pub(super) fn sweep() {
        let Ok(listed) = ask("ip", &["netns", "list"]) else {
            return;
        };
        for line in listed.lines() {
            let name = line.split_whitespace().next().unwrap_or_default();
            let process = name
                .strip_prefix(NAME)
                .and_then(|rest| rest.split('-').nth(1));
            let is_gone = process
                .and_then(|process| process.parse::<u32>().ok())
                .is_some_and(|process| !fs::exists(format!("/proc/{process}")).unwrap_or(true));
            if is_gone {
                let _ = ask("ip", &["netns", "del", name]);
            }
        }
    }

    /// A command that runs a program in it.
    pub(super) fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// What can be done to packets in it.
    ///
    /// # Errors
    ///
    /// If nothing can: without netem it takes nftables.
    pub(super) fn packets(&self) -> io::Result<Packets> {
        let netem = self.ask(
            "tc",
            &[
                "qdisc", "add", "dev", "soak", "root", "netem", "delay", "1ms",
            ],
        );
        let packets = if netem.is_ok() {
            Packets::Netem
        } else {
            self.lose(Packets::Substitute, 1)?;
            self.hold(Packets::Substitute)?;
            Packets::Substitute
        };
        self.heal();
        Ok(packets)
    }

    /// Loses so many of a hundred packets, in both directions.
    pub(super) fn lose(&self, packets: Packets, percent: u32) -> io::Result<()> {
        if packets == Packets::Netem {
            let percent = format!("{percent}%");
            let lose = [
                "qdisc", "replace", "dev", "soak", "root", "netem", "loss", &percent,
            ];
            return self.ask("tc", &lose).map(drop);
        }
        let rules = format!(
            "table inet soak {{\n\
             chain incoming {{\n\
             type filter hook input priority 0\n\
             numgen random mod 100 < {percent} drop\n\
             }}\n\
             chain outgoing {{\n\
             type filter hook output priority 0\n\
             numgen random mod 100 < {percent} drop\n\
             }}\n\
             }}\n"
        );
        let mut nft = self.command("nft".as_ref());
        nft.args(["-f", "-"]);
        said(nft, &rules).map(drop)
    }

    /// Makes what the node sends wait: 100 ms, or for as long as a queue before a line of 4 Mbit/s holds it.
    pub(super) fn hold(&self, packets: Packets) -> io::Result<()> {
        let hold: &[&str] = match packets {
            Packets::Netem => &["netem", "delay", "100ms", "20ms"],
            Packets::Substitute => &["tbf", "rate", "4mbit", "burst", "16kb", "latency", "200ms"],
        };
        let begin = ["qdisc", "replace", "dev", "soak", "root"];
        self.ask("tc", &[&begin[..], hold].concat()).map(drop)
    }

    /// Nothing is lost and nothing waits any more.
    pub(super) fn heal(&self) {
        // Neither need be there.
        let _ = self.ask("tc", &["qdisc", "del", "dev", "soak", "root"]);
        let _ = self.ask("nft", &["flush", "ruleset"]);
    }

    fn ask(&self, program: &str, arguments: &[&str]) -> io::Result<String> {
        let mut command = self.command(program.as_ref());
        command.args(arguments);
        said(command, "")
    }

    /// The name of this machine's end. The kernel takes fifteen letters.
    fn outer(&self) -> String {
        let [.., process, number] = self.here.octets();
        format!("bsoak{process}-{number}")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The line goes with it.
        let _ = ask("ip", &["netns", "del", &self.name]);
        let _ = ask("ip", &["link", "del", &self.outer()]);
    }
}

fn ask(program: &str, arguments: &[&str]) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    said(command, "")
}

fn said(mut command: Command, input: &str) -> io::Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("{shown}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{shown}: {}", error.trim())))
}
