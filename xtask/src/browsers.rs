use std::fs;

use crate::Outcome;
use crate::project::Project;
use crate::setup::{self, Install, Need};

/// The three engines, their drivers and a screen. Fonts come with the browsers.
const BROWSERS: [Need; 5] = [
    Need {
        what: "Chromium and its driver",
        why: "one of the three engines that the tests drive",
        present: |project| {
            ["chromium", "chromedriver"]
                .iter()
                .all(|name| project.find(name).is_some())
        },
        // The sandbox is only recommended by the browser, which refuses to start without.
        install: Install::Apt(&["chromium", "chromium-driver", "chromium-sandbox"]),
    },
    Need {
        what: "Firefox",
        why: "one of the three engines that the tests drive",
        present: |project| {
            ["firefox-esr", "firefox"]
                .iter()
                .any(|name| project.find(name).is_some())
        },
        install: Install::Apt(&["firefox-esr"]),
    },
    Need {
        what: "geckodriver",
        why: "drives Firefox; compiled here, in about 3 minutes, since Debian has none",
        present: |project| project.find("geckodriver").is_some(),
        // Unoptimised, it is as quick as a test needs and compiles in half the time.
        install: Install::Cargo(&["geckodriver", "--version", "0.37.1", "--locked", "--debug"]),
    },
    Need {
        what: "WebKitGTK's MiniBrowser and its driver",
        why: "one of the three engines that the tests drive",
        present: |project| project.find("WebKitWebDriver").is_some() && mini_browser(),
        install: Install::Apt(&["webkit2gtk-driver"]),
    },
    Need {
        what: "Xvfb and D-Bus",
        why: "WebKitGTK has no headless mode",
        present: |project| {
            ["Xvfb", "dbus-daemon"]
                .iter()
                .all(|name| project.find(name).is_some())
        },
        install: Install::Apt(&["xvfb", "dbus"]),
    },
];

pub(crate) fn set_up(project: &Project) -> Outcome {
    setup::ensure(project, &[&setup::RUST, &BROWSERS])
}

/// `MiniBrowser` lies among its library's files, in a folder named after the machine.
fn mini_browser() -> bool {
    fs::read_dir("/usr/lib").is_ok_and(|folders| {
        folders
            .flatten()
            .any(|folder| folder.path().join("webkit2gtk-4.1/MiniBrowser").is_file())
    })
}
