//! Applications that others have written, as they are: Django's admin, which makes its pages at the server, and
//! Verdaccio, one page with a JSON API. Neither knows of Bulla. `cargo xtask test --suite gateway` installs both.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::bank::PATIENCE;
use crate::browser::process::{Group, wait_for};
use crate::npm::{said, target};

/// Who may log in.
pub const USER: &str = "ann";

/// Django with its admin, served by gunicorn, and beside it what the tests ask for and the admin lacks, below `/probe/`.
/// It goes with this value.
pub struct Django {
    application: Application,
    password: String,
}

impl Django {
    /// Starts one that has one user, [`USER`], who may do all. It goes by the names `localhost` and `127.0.0.1`.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not begin.
    pub fn start() -> io::Result<Self> {
        Self::trusting(&[])
    }

    /// Starts one that takes forms from pages of these origins, too: what every Django is told that stands behind
    /// something that ends TLS.
    ///
    /// # Errors
    ///
    /// As [`Django::start`].
    pub fn trusting(origins: &[&str]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let password = secret()?;
        let python = installed("django/bin/python3")?;
        let key = secret()?;
        let run = |arguments: &[&str]| {
            let mut command = Command::new(&python);
            command
                .args(arguments)
                .current_dir(sources().join("django/site"))
                .env("ALLOWED_HOSTS", "localhost 127.0.0.1")
                .env("CSRF_TRUSTED_ORIGINS", origins.join(" "))
                .env("DATABASE", folder.path().join("db.sqlite3"))
                .env("SECRET_KEY", &key)
                .env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        said(&mut run(&["manage.py", "migrate"]))?;
        let mut create = run(&["manage.py", "createsuperuser", "--noinput"]);
        create.args(["--username", USER, "--email", "ann@example.org"]);
        said(create.env("DJANGO_SUPERUSER_PASSWORD", &password))?;

        let mut serve = run(&["-m", "gunicorn", "office.wsgi"]);
        let application = Application::start(
            "gunicorn",
            serve.env("TMPDIR", folder.path()),
            folder,
            "/probe/mark",
        )?;
        Ok(Self {
            application,
            password,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        self.application.origin()
    }

    /// The password of [`USER`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The requests that have come to it so far, in order: `GET /admin/login/?next=/admin/`.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn requests(&self) -> io::Result<Vec<String>> {
        self.application
            .requests(|line| line.strip_prefix("request "))
    }
}

/// Verdaccio: a store of npm packages, with a page for people. It goes with this value.
pub struct Verdaccio {
    application: Application,
    password: String,
}

impl Verdaccio {
    /// Starts one that has one user, [`USER`], and one package, `clay`, which is shown to nobody else.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not begin.
    pub fn start() -> io::Result<Self> {
        const HASH: &str = "console.log(require('bcryptjs').hashSync(process.argv[1], 4))";

        let folder = tempfile::tempdir()?;
        let password = secret()?;
        let modules = installed("verdaccio/node_modules")?;
        let sources = sources().join("verdaccio");
        let mut hash = Command::new("node");
        let hash = said(
            hash.args(["-e", HASH, &password])
                .current_dir(modules.join("..")),
        )?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("htpasswd"), format!("{USER}:{}\n", hash.trim()))?;
        fs::create_dir_all(at("storage/clay"))?;
        fs::write(
            at("storage/.verdaccio-db.json"),
            r#"{"list":["clay"],"secret":""}"#,
        )?;
        fs::copy(sources.join("clay.json"), at("storage/clay/package.json"))?;
        fs::copy(sources.join("config.yaml"), at("config.yaml"))?;

        let mut serve = Command::new("node");
        serve
            .arg(modules.join("verdaccio/bin/verdaccio"))
            .args(["--config", "config.yaml", "--listen", "127.0.0.1:0"])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env_remove("VERDACCIO_PUBLIC_URL");
        let application = Application::start("verdaccio", &mut serve, folder, "/-/ping")?;
        Ok(Self {
            application,
            password,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        self.application.origin()
    }

    /// The password of [`USER`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The requests that have come to it so far, in order, but for those for its static files: `GET /clay`.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn requests(&self) -> io::Result<Vec<String>> {
        self.application.requests(|line| {
            let (_, request) = line.split_once(" requested '")?;
            request.strip_suffix('\'')
        })
    }
}

/// A running application.
struct Application {
    // The order matters: the processes end before their files go.
    processes: Group,
    port: u16,
    /// A path that is asked for here only.
    mark: &'static str,
    marks: AtomicU32,
    _folder: TempDir,
}

impl Application {
    /// Starts it, and waits until it answers at `mark`.
    fn start(
        program: &'static str,
        command: &mut Command,
        folder: TempDir,
        mark: &'static str,
    ) -> io::Result<Self> {
        let mut processes = Group::spawn(program, command).map_err(io::Error::other)?;
        let mut port = None;
        wait_for(PATIENCE, || {
            let listening = processes.listening_port();
            port = listening.filter(|port| ask(*port, mark).is_ok_and(|reply| !reply.is_empty()));
            port.is_some() || processes.has_ended()
        });
        let port = port.ok_or_else(|| {
            io::Error::other(format!("{program} did not start: {}", processes.log()))
        })?;
        Ok(Self {
            processes,
            port,
            mark,
            marks: AtomicU32::new(0),
            _folder: folder,
        })
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Those requests that its log tells of, in lines which `read` understands.
    fn requests(&self, read: impl Fn(&str) -> Option<&str>) -> io::Result<Vec<String>> {
        // What it is told to write may take a while. When it has told of this one, it has told of all before.
        let number = self.marks.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}?mark={number}", self.mark);
        ask(self.port, &mark)?;
        let last = format!("GET {mark}");
        let mut requests = Vec::new();
        let is_told = wait_for(PATIENCE, || {
            let log = self.processes.log();
            requests = log.lines().filter_map(&read).map(str::to_owned).collect();
            requests.contains(&last)
        });
        if !is_told {
            return Err(io::Error::other(format!("its log has no {last}")));
        }
        let marks = format!("GET {}", self.mark);
        requests.retain(|request| !request.starts_with(&marks));
        Ok(requests)
    }
}

/// What is answered to a GET.
fn ask(port: u16, target: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// Where what belongs to the applications is.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apps")
}

/// A file of what the set-up installs.
pub(crate) fn installed(file: &str) -> io::Result<PathBuf> {
    let file = target()?.join("tools").join(file);
    if file.exists() {
        return Ok(file);
    }
    let file = file.display();
    Err(io::Error::other(format!(
        "{file} is not there; `cargo xtask test --suite gateway` installs it"
    )))
}

/// Something that nobody guesses.
fn secret() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
