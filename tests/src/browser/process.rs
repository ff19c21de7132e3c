//! A driver, the browser it starts and everything that one starts: one process group.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::BrowserError;

/// How often a condition outside the browser is looked at again.
const POLL: Duration = Duration::from_millis(10);

/// How long killed processes may take to disappear.
const DYING: Duration = Duration::from_secs(10);

/// Kills its own process group as soon as its standard input ends.
const WATCH: &str = "read -r _; kill -KILL 0";

/// A program that leads a process group of its own. Dropping it kills the whole group.
///
/// A second process in the group, the watch, waits on a pipe from this one. Should this process end
/// without running destructors, by a signal or an abort, the pipe closes and the watch does the
/// killing: a group of its own does not even hear of Ctrl-C.
///
/// Of the programs started here only the crash handlers of Chromium and Firefox leave the group.
/// Each ends by itself with the browser that it watches.
pub(crate) struct Group {
    program: &'static str,
    leader: Child,
    watch: Child,
    log: File,
}

impl Group {
    /// Starts `command` as the leader of a new group. Its output goes to the log.
    pub(crate) fn spawn(
        program: &'static str,
        command: &mut Command,
    ) -> Result<Self, BrowserError> {
        let failed = |error: io::Error| BrowserError::Start {
            program,
            reason: error.to_string(),
        };

        let log = tempfile::tempfile()?;
        let mut leader = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let watch = Command::new("/bin/sh")
            .args(["-c", WATCH])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(Pid::from_child(&leader).as_raw_nonzero().get())
            .spawn();

        match watch {
            Ok(watch) => Ok(Self {
                program,
                leader,
                watch,
                log,
            }),
            Err(error) => {
                let _ = leader.kill();
                let _ = leader.wait();
                Err(failed(error))
            }
        }
    }

    /// Whatever the group has written to its standard output and error, up to 1 MiB of it.
    pub(crate) fn log(&self) -> String {
        let mut text = vec![0; 1 << 20];
        // Read at an offset: the file's own position is where the group writes.
        let length = self.log.read_at(&mut text, 0).unwrap_or(0);
        text.truncate(length);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The error that the program did not start because of `reason`, with the end of the log.
    pub(super) fn start_error(&self, reason: &str) -> BrowserError {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.len().saturating_sub(20);
        BrowserError::Start {
            program: self.program,
            reason: format!(
                "{reason}\n{}",
                lines.get(tail..).unwrap_or_default().join("\n")
            ),
        }
    }

    /// Whether the leader has exited.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.leader.try_wait(), Ok(None))
    }

    /// The first TCP port that the leader listens on over IPv4, if it does.
    ///
    /// Read from `/proc`, because a port chosen here beforehand can be taken by the time that the
    /// program binds it, and not every driver says which one it chose itself.
    pub(crate) fn listening_port(&self) -> Option<u16> {
        let process = PathBuf::from(format!("/proc/{}", self.leader.id()));
        let sockets: Vec<String> = fs::read_dir(process.join("fd"))
            .ok()?
            .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
            .filter_map(|target| {
                let inode = target
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?;
                Some(inode.to_owned())
            })
            .collect();

        fs::read_to_string(process.join("net/tcp"))
            .ok()?
            .lines()
            .filter_map(|line| listener(line))
            .find(|(_, inode)| sockets.iter().any(|socket| socket == inode))
            .map(|(port, _)| port)
    }

    /// The memory of the whole group in bytes: each process' proportional share of what it has
    /// mapped (PSS), or where the kernel does not tell, as with sandboxed processes of an ordinary
    /// user, all that it has resident (RSS).
    pub(super) fn memory(&self) -> io::Result<u64> {
        let watch = self.watch.id();
        let mut sum = 0;
        for member in self.members()? {
            if member != watch {
                // A process that ended since it was listed has no memory.
                sum += pss(member).or_else(|| rss(member)).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    /// Asks the leader to end and waits for it, at most `patience`.
    pub(super) fn ask_to_end(&mut self, patience: Duration) {
        if self.has_ended() {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.leader), Signal::TERM);
        wait_for(patience, || self.has_ended());
    }

    /// The ids of the processes in the group that are alive.
    fn members(&self) -> io::Result<Vec<u32>> {
        let group = self.leader.id();
        let mut members = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if live_group_of(id) == Some(group) {
                members.push(id);
            }
        }
        Ok(members)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The watch has not been waited for, so the group's id cannot have been given to others.
        let _ = kill_process_group(Pid::from_child(&self.leader), Signal::KILL);
        // The profile folder can only be removed when nobody writes to it any more.
        wait_for(DYING, || self.members().is_ok_and(|left| left.is_empty()));
        let _ = self.leader.wait();
        let _ = self.watch.wait();
    }
}

/// The full path of the first of `names` that is installed.
///
/// Looks on `PATH`, then where `cargo install` puts programs.
pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let folders: Vec<PathBuf> = env::split_paths(&path)
        .chain(cargo.map(|home| home.join("bin")))
        .collect();

    names.iter().find_map(|name| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    })
}

/// Looks at `condition` again and again until it holds. False if `patience` ran out first.
pub(crate) fn wait_for(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Port and inode from a line of `/proc/net/tcp`, if it is about a listening socket.
fn listener(line: &str) -> Option<(u16, &str)> {
    const LISTEN: &str = "0A";

    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let inode = fields.nth(5)?;
    let (_, port) = local.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, inode))
}

/// The process group of a process that exists and is not a zombie.
fn live_group_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may itself hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

fn pss(id: u32) -> Option<u64> {
    kilobytes(&format!("/proc/{id}/smaps_rollup"), "Pss:")
}

fn rss(id: u32) -> Option<u64> {
    kilobytes(&format!("/proc/{id}/status"), "VmRSS:")
}

/// The value, in bytes, of the line `key` of a file like `/proc/self/status`.
fn kilobytes(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let count: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(count * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leader with a child, both of which would outlast any test run.
    fn family() -> Group {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & wait"]);
        let group = Group::spawn("sh", &mut command).unwrap();
        // The shell, its child and the watch.
        assert!(wait_for(DYING, || group.members().unwrap().len() == 3));
        group
    }

    #[test]
    fn dropping_kills_the_whole_group() {
        let group = family();
        let members = group.members().unwrap();
        drop(group);
        for member in members {
            assert_eq!(live_group_of(member), None);
        }
    }

    #[test]
    fn the_watch_kills_the_group_when_its_pipe_closes() {
        let mut group = family();
        drop(group.watch.stdin.take());
        assert!(wait_for(DYING, || group.members().unwrap().is_empty()));
    }

    #[test]
    fn memory_counts_every_process() {
        let group = family();
        let one = group.members().unwrap().into_iter().find_map(pss).unwrap();
        assert!(group.memory().unwrap() > one);
    }

    #[test]
    fn an_ended_leader_is_noticed() {
        let mut group = family();
        group.ask_to_end(DYING);
        assert!(group.has_ended());
    }

    #[test]
    fn listening_sockets_are_told_from_others() {
        let listening = "   0: 0100007F:25EF 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7043 1 0 100 0 0 10 0";
        assert_eq!(listener(listening), Some((0x25EF, "7043")));
        assert_eq!(listener(&listening.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert_eq!(find(&["no-such-program-at-all"]), None);
        let path = find(&["no-such-program-at-all", "sh"]).unwrap();
        assert!(
            path.is_absolute() && path.ends_with("sh"),
            "{}",
            path.display()
        );
    }
}
