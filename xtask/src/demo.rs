//! The demos: a bank of our own, and an application of somebody else's behind the gateway.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::Outcome;
use crate::project::{self, Project, say};
use crate::{apps, wasm};

/// Who may log in to Django, and by what. The demo is reached from this machine alone.
const USER: &str = "ann";
const PASSWORD: &str = "clay and seals";

/// The bank and its thief.
pub(crate) fn bank(project: &mut Project, arguments: &[&str]) -> Outcome {
    wasm::build(project)?;
    let mut demo = project.cargo(&["run", "--release", "--package", "bulla-demo", "--"]);
    project::run(demo.args(arguments))
}

/// Django's admin behind the gateway, with everything made anew.
pub(crate) fn gateway(project: &mut Project, port: &str) -> Outcome {
    wasm::build(project)?;
    apps::install_django(project)?;
    let mut build = project.cargo(&["build", "--release", "--package", "bulla-gateway"]);
    project::run(&mut build)?;

    let folder = project.target.join("demo/gateway");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let django = Django::start(project, &folder)?;

    let mut gateway = project.command(project.target.join("release/bulla-gateway"));
    gateway
        .args(["--upstream", &format!("http://127.0.0.1:{}", django.port)])
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .arg("--state")
        .arg(folder.join("state"));
    say(&format!(
        "Django's admin behind the gateway: http://localhost:{port}/admin/ (user {USER}, password \"{PASSWORD}\")"
    ));
    say(&format!(
        "the same without it: http://127.0.0.1:{}/admin/",
        django.port
    ));
    say(
        "be the thief: log in to each, copy the cookie `sessionid` from the browser's tools, and call",
    );
    say(&format!(
        "  curl -s -o /dev/null -w '%{{http_code}}\\n' -H 'Cookie: sessionid=COPIED' http://localhost:{port}/admin/"
    ));
    say("it is 401 here, and without the gateway, at its port, 200: the thief is logged in");
    project::run(&mut gateway)
}

/// Django. It ends with this value.
struct Django {
    serving: Child,
    port: u16,
}

impl Django {
    fn start(project: &Project, folder: &Path) -> Outcome<Self> {
        let python = project.tools().join("django/bin/python3");
        let site = PathBuf::from("tests/apps/django/site");
        // Nobody else has it before Django does, as a rule.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let database = folder.join("db.sqlite3");
        let run = |arguments: &[&str]| -> Outcome<Command> {
            let mut command = project.command(&python);
            command
                .args(arguments)
                .current_dir(&site)
                .env("ALLOWED_HOSTS", "localhost 127.0.0.1")
                .env("CSRF_TRUSTED_ORIGINS", "")
                .env("DATABASE", fs::canonicalize(folder)?.join(&database))
                .env("SECRET_KEY", "of the demo, which nobody else reaches")
                .env("PYTHONDONTWRITEBYTECODE", "1");
            Ok(command)
        };
        project::run(run(&["manage.py", "migrate", "--verbosity", "0"])?.arg("--noinput"))?;
        let mut create = run(&["manage.py", "createsuperuser", "--noinput"])?;
        create.args(["--username", USER, "--email", "ann@example.org"]);
        project::run(create.env("DJANGO_SUPERUSER_PASSWORD", PASSWORD))?;
        let address = format!("127.0.0.1:{port}");
        let mut serve = run(&["-m", "gunicorn", "office.wsgi", "--log-level", "warning"])?;
        let serving = serve.args(["--bind", &address]).spawn()?;
        Ok(Self { serving, port })
    }
}

impl Drop for Django {
    fn drop(&mut self) {
        let _ = self.serving.kill();
        let _ = self.serving.wait();
    }
}
