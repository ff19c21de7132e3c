//! The bank: accounts, payments, customers and their passwords. It knows nothing of sessions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use bulla_server::Clock as _;
use serde::{Deserialize, Serialize};

use crate::clock::MovableClock;

/// The account that the thief is paid into.
pub(crate) const MALLORY: &str = "4004";

const DAY: u64 = 24 * 60 * 60;

/// How many people have an account. A number of its own: as the length of [`PEOPLE`] in a type, an
/// optimising compiler goes round in a circle.
const COUNT: usize = 5;

/// Everybody who has an account.
const PEOPLE: [Person; COUNT] = [
    Person::customer("1001", "Ada Okafor", "ada", "clay-tablet", 3_140_50),
    Person::customer("2002", "Ben Lindqvist", "ben", "reed-stylus", 1_905_00),
    Person::payee("3003", "Corner Bakery"),
    Person::payee(MALLORY, "Mallory Crane"),
    Person::payee("5005", "Harbour Works"),
];

/// Who works here, the user id and the password. There is no account that goes with it.
const CLERK: (&str, &str, &str) = ("Nanna Weir", "nanna", "cylinder-seal");

/// What was paid before the demo began: from, to, cents, what for, days ago.
const PAST: [(&str, &str, u64, &str, u64); 4] = [
    ("5005", "1001", 2_650_00, "Salary", 6),
    ("5005", "2002", 2_210_00, "Salary", 6),
    ("1001", "3003", 14_80, "Bread for Sunday", 3),
    ("2002", "1001", 62_00, "Concert tickets", 1),
];

/// An account's owner. A payee banks elsewhere and cannot log in here.
struct Person {
    number: &'static str,
    name: &'static str,
    login: Option<(&'static str, &'static str)>,
    balance: u64,
}

impl Person {
    const fn customer(
        number: &'static str,
        name: &'static str,
        user: &'static str,
        password: &'static str,
        balance: u64,
    ) -> Self {
        let login = Some((user, password));
        Self {
            number,
            name,
            login,
            balance,
        }
    }

    const fn payee(number: &'static str, name: &'static str) -> Self {
        Self {
            number,
            name,
            login: None,
            balance: 10_000_00,
        }
    }
}

/// Credentials that the page may show, since this is a demo.
#[derive(Serialize)]
pub(crate) struct Shown {
    name: &'static str,
    /// Of the account, where there is one.
    number: Option<&'static str>,
    user: &'static str,
    password: &'static str,
}

/// Who can log in, and how.
pub(crate) fn shown_credentials() -> Vec<Shown> {
    let shown = |person: &Person| {
        let (user, password) = person.login?;
        Some(Shown {
            name: person.name,
            number: Some(person.number),
            user,
            password,
        })
    };
    PEOPLE.iter().filter_map(shown).collect()
}

/// The same for the back office.
pub(crate) fn shown_clerk() -> Shown {
    let (name, user, password) = CLERK;
    Shown {
        name,
        number: None,
        user,
        password,
    }
}

/// Whether this user works here.
pub(crate) fn is_clerk(user: &str) -> bool {
    user == CLERK.1
}

/// Whoever has an account and can log in: name and user id.
pub(crate) fn customers() -> impl Iterator<Item = (&'static str, &'static str)> {
    let known = |person: &Person| Some((person.name, person.login?.0));
    PEOPLE.iter().filter_map(known)
}

/// Passwords as they are kept, the clerk's among them: Argon2id with a random salt each.
pub(crate) struct Customers {
    hashes: Vec<(&'static str, String)>,
    /// Verified against when there is no such customer, so that time does not tell.
    nobody: String,
}

impl Customers {
    /// Hashes the passwords of the demo.
    ///
    /// # Errors
    ///
    /// If the system gives no random salt.
    pub(crate) fn new() -> Result<Self, argon2::password_hash::Error> {
        let hash = |password: &str| {
            let hash = Argon2::default().hash_password(password.as_bytes())?;
            Ok::<_, argon2::password_hash::Error>(hash.to_string())
        };
        let customers = PEOPLE.iter().filter_map(|person| person.login);
        let (_, user, password) = CLERK;
        let everybody = customers.chain([(user, password)]);
        let hashes = everybody.map(|(user, password)| Ok((user, hash(password)?)));
        Ok(Self {
            hashes: hashes.collect::<Result<_, argon2::password_hash::Error>>()?,
            nobody: hash("")?,
        })
    }

    /// Whether this is the customer's password. Takes its time: call it where blocking is allowed.
    pub(crate) fn verify(&self, user: &str, password: &str) -> bool {
        let known = self.hashes.iter().find(|(name, _)| *name == user);
        let hash = known.map_or(&self.nobody, |(_, hash)| hash);
        let is_right = PasswordHash::new(hash).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        });
        is_right && known.is_some()
    }
}

/// A payment order. Amounts are in cents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The account that is paid into.
    pub(crate) to: String,
    pub(crate) amount: u64,
    #[serde(default)]
    pub(crate) note: String,
}

/// What a customer sees of his account.
#[derive(Debug, Serialize)]
pub(crate) struct Statement {
    name: &'static str,
    number: &'static str,
    balance: u64,
    /// Newest first.
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    /// In seconds since 1970.
    time: u64,
    /// The other side.
    name: &'static str,
    note: String,
    /// Paid out if negative.
    amount: i64,
}

/// An account that can be paid into.
#[derive(Debug, Serialize)]
pub(crate) struct Payee {
    name: &'static str,
    number: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Receipt {
    name: &'static str,
    amount: u64,
    balance: u64,
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Declined {
    #[error("there is no such account")]
    NoAccount,
    #[error("an amount is needed")]
    NoAmount,
    #[error("that is more than the account holds")]
    NoFunds,
    #[error("a note has 80 characters at most")]
    LongNote,
    #[error("an account cannot pay itself")]
    Itself,
}

/// One bank's books. Clones are the same bank.
#[derive(Clone)]
pub(crate) struct Bank {
    books: Arc<Mutex<Books>>,
    clock: MovableClock,
}

struct Books {
    /// In the order of [`PEOPLE`].
    balances: [u64; COUNT],
    payments: Vec<Payment>,
}

struct Payment {
    from: usize,
    to: usize,
    amount: u64,
    note: String,
    time: u64,
}

impl Bank {
    /// A bank with its first customers and a few payments of the past.
    pub(crate) fn new(clock: MovableClock) -> Self {
        let now = clock.now();
        let past = PAST.iter().filter_map(|(from, to, amount, note, days)| {
            Some(Payment {
                from: by_number(from)?,
                to: by_number(to)?,
                amount: *amount,
                note: (*note).to_owned(),
                time: now.saturating_sub(days * DAY),
            })
        });
        let books = Books {
            balances: PEOPLE.each_ref().map(|person| person.balance),
            payments: past.collect(),
        };
        Self {
            books: Arc::new(Mutex::new(books)),
            clock,
        }
    }

    /// A customer's account.
    pub(crate) fn statement(&self, user: &str) -> Result<Statement, Declined> {
        let account = by_user(user).ok_or(Declined::NoAccount)?;
        let books = self.books();
        let entry = |payment: &Payment| {
            let amount = i64::try_from(payment.amount).ok()?;
            let (other, amount) = match account {
                _ if payment.from == account => (payment.to, -amount),
                _ if payment.to == account => (payment.from, amount),
                _ => return None,
            };
            Some(Entry {
                time: payment.time,
                name: PEOPLE.get(other)?.name,
                note: payment.note.clone(),
                amount,
            })
        };
        let person = PEOPLE.get(account).ok_or(Declined::NoAccount)?;
        Ok(Statement {
            name: person.name,
            number: person.number,
            balance: books.balance(account),
            entries: books.payments.iter().rev().filter_map(entry).collect(),
        })
    }

    /// The account number that belongs to a name, to be checked before paying.
    pub(crate) fn payee(name: &str) -> Result<Payee, Declined> {
        let person = PEOPLE.iter().find(|person| person.name == name);
        let person = person.ok_or(Declined::NoAccount)?;
        Ok(Payee {
            name: person.name,
            number: person.number,
        })
    }

    /// Carries out an order, whole or not at all.
    pub(crate) fn pay(&self, user: &str, order: Order) -> Result<Receipt, Declined> {
        let from = by_user(user).ok_or(Declined::NoAccount)?;
        let to = by_number(&order.to).ok_or(Declined::NoAccount)?;
        let payee = PEOPLE.get(to).ok_or(Declined::NoAccount)?;
        if from == to {
            return Err(Declined::Itself);
        }
        if order.amount == 0 {
            return Err(Declined::NoAmount);
        }
        if order.note.chars().count() > 80 {
            return Err(Declined::LongNote);
        }
        let time = self.clock.now();
        let mut books = self.books();
        let left = books.balance(from).checked_sub(order.amount);
        let left = left.ok_or(Declined::NoFunds)?;
        let gained = books.balance(to).saturating_add(order.amount);
        for (account, balance) in [(from, left), (to, gained)] {
            if let Some(kept) = books.balances.get_mut(account) {
                *kept = balance;
            }
        }
        books.payments.push(Payment {
            from,
            to,
            amount: order.amount,
            note: order.note,
            time,
        });
        Ok(Receipt {
            name: payee.name,
            amount: order.amount,
            balance: left,
        })
    }

    /// What the thief has, in cents.
    pub(crate) fn thiefs_balance(&self) -> u64 {
        by_number(MALLORY).map_or(0, |account| self.books().balance(account))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn balance(&self, account: usize) -> u64 {
        self.balances.get(account).copied().unwrap_or_default()
    }
}

/// The names that can be paid.
pub(crate) fn names() -> [&'static str; COUNT] {
    PEOPLE.each_ref().map(|person| person.name)
}

fn by_number(number: &str) -> Option<usize> {
    PEOPLE.iter().position(|person| person.number == number)
}

fn by_user(user: &str) -> Option<usize> {
    let is_theirs = |person: &Person| person.login.is_some_and(|(name, _)| name == user);
    PEOPLE.iter().position(is_theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(to: &str, amount: u64) -> Order {
        let (to, note) = (to.to_owned(), String::new());
        Order { to, amount, note }
    }

    #[test]
    fn money_moves_and_none_is_made() {
        let bank = Bank::new(MovableClock::default());
        let total = |bank: &Bank| bank.books().balances.iter().sum::<u64>();
        let (before, all) = (bank.statement("ada").unwrap().balance, total(&bank));
        let receipt = bank.pay("ada", order("2002", 25_00)).unwrap();
        assert_eq!(receipt.balance, before - 25_00);
        assert_eq!(total(&bank), all);
        let newest = |user: &str| bank.statement(user).unwrap().entries[0].amount;
        assert_eq!((newest("ada"), newest("ben")), (-25_00, 25_00));
    }

    #[test]
    fn what_cannot_be_paid_changes_nothing() {
        let bank = Bank::new(MovableClock::default());
        for (order, declined) in [
            (order("9999", 1), Declined::NoAccount),
            (order("2002", 0), Declined::NoAmount),
            (order("2002", u64::MAX), Declined::NoFunds),
            (order("1001", 1), Declined::Itself),
        ] {
            assert_eq!(bank.pay("ada", order).unwrap_err(), declined);
        }
        assert_eq!(bank.books().payments.len(), PAST.len());
    }

    #[test]
    fn only_the_right_password_is_taken() {
        let customers = Customers::new().unwrap();
        assert!(customers.verify("ada", "clay-tablet"));
        assert!(customers.verify("nanna", "cylinder-seal"));
        for (user, password) in [("ada", "reed-stylus"), ("ada", ""), ("nobody", "")] {
            assert!(!customers.verify(user, password), "{user}");
        }
    }
}
