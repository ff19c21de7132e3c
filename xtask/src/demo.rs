//! The demos: a bank of our own, and an application of somebody else's behind the gateway.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::project::{self, Project, say};
use crate::{apps, wasm};

/// Who may log in to Django, and by what. The demo is reached from this machine alone.
const USER: &str = "ann";
const PASSWORD: &str = "clay-and-seals";

/// Whole-program optimisation is for what ships.
const PROFILE: &str = "demo";

/// How often it is looked whether Django is there.
const POLL: Duration = Duration::from_millis(50);

/// The bank and its thief.
pub(crate) fn bank(project: &mut Project, arguments: &[&str]) -> Outcome {
    wasm::build(project)?;
    let mut demo = project.cargo(&["run", "--profile", PROFILE, "--package", "bulla-demo", "--"]);
    project::run(demo.args(arguments))
}

/// Django's admin behind the gateway, and a thief's panel, with everything made anew.
pub(crate) fn gateway(project: &mut Project, port: &str) -> Outcome {
    wasm::build(project)?;
    apps::install_django(project)?;
    let mut build = project.cargo(&["build", "--profile", PROFILE]);
    build.args(["--package", "bulla-gateway", "--package", "bulla-demo"]);
    project::run(&mut build)?;

    let folder = project.target.join("django");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let (_django, without) = django(project, &folder)?;

    let behind = format!("http://localhost:{port}");
    let programs = project.target.join(PROFILE);
    let mut panel = project.command(programs.join("bulla-demo"));
    panel
        .args(["thief", "--port", "0", "--behind", &behind])
        .args(["--without", &without])
        .args(["--user", USER, "--password", PASSWORD]);
    let _panel = Running(panel.spawn()?);

    say(&format!(
        "Django's admin behind the gateway: {behind}/admin/; without it: {without}/admin/"
    ));
    say(&format!(
        "log in to both as {USER}, with the password {PASSWORD}, and go to the thief's page, whose address is below"
    ));
    let mut gateway = project.command(programs.join("bulla-gateway"));
    gateway
        .args(["--upstream", &without])
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .arg("--state")
        .arg(folder.join("state"));
    project::run(&mut gateway)
}

/// Starts Django with a database of its own, and waits until it can be reached. Gives where it is, too.
fn django(project: &Project, folder: &Path) -> Outcome<(Running, String)> {
    let python = project.tools().join("django/bin/python3");
    // Nobody else has it before Django does, as a rule.
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let run = |arguments: &[&str]| {
        let mut command = project.command(&python);
        command
            .args(arguments)
            .current_dir("tests/apps/django/site")
            .env("ALLOWED_HOSTS", "localhost 127.0.0.1")
            .env("CSRF_TRUSTED_ORIGINS", "")
            .env("DATABASE", folder.join("db.sqlite3"))
            .env("SECRET_KEY", "of the demo, which nobody else reaches")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    project::run(&mut run(&["manage.py", "migrate", "--verbosity", "0"]))?;
    let mut create = run(&["manage.py", "createsuperuser", "--noinput"]);
    create.args(["--username", USER, "--email", "ann@example.org"]);
    project::run(create.env("DJANGO_SUPERUSER_PASSWORD", PASSWORD))?;
    let address = format!("127.0.0.1:{port}");
    let mut serve = run(&["-m", "gunicorn", "office.wsgi", "--bind", &address]);
    // Its configuration tells the tests of each request.
    serve.args(["--log-level", "warning"]).stdout(Stdio::null());
    let mut serving = Running(serve.spawn()?);
    while TcpStream::connect(&address).is_err() {
        if let Some(status) = serving.0.try_wait()? {
            return Err(format!("Django did not start ({status})").into());
        }
        thread::sleep(POLL);
    }
    Ok((serving, format!("http://{address}")))
}

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
