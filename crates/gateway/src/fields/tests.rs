use super::*;

fn set(text: &str) -> Set {
    Set {
        text: text.to_owned(),
        hash: format!("sha256-{text}"),
    }
}

fn rule(page: Option<&str>, text: &str) -> FieldsRule {
    FieldsRule {
        page: page.map(str::to_owned),
        hash: set(text).hash,
        justification: "as it was deployed".to_owned(),
    }
}

fn told(changed: Option<Changed>) -> Option<String> {
    changed.map(|changed| format!("{}\n{}", changed.page, changed.lines))
}

#[test]
fn what_a_page_has_first_is_no_change_and_what_it_has_then_is() {
    let pages = Pages::default();
    assert_eq!(pages.note("/pay", set("a: 1\nb: 1"), &[], 0), None);
    assert_eq!(pages.note("/", set("a: 2"), &[], 0), None);
    let changed = pages.note("/pay", set("b: 1\na: 2"), &[], 5);
    assert_eq!(told(changed).unwrap(), "/pay\n- a: 1\n+ a: 2");
    // It is told once.
    assert_eq!(pages.note("/pay", set("b: 1\na: 2"), &[], 6), None);
    assert_eq!(pages.note("/pay", set(""), &[], 6).unwrap().page, "/pay");
    let all = pages.all();
    let all: Vec<_> = all.iter().map(|one| (&*one.page, &*one.fields)).collect();
    let expected = [
        ("/", "a: 2"),
        ("/pay", "a: 1\nb: 1"),
        ("/pay", "b: 1\na: 2"),
        ("/pay", ""),
    ];
    assert_eq!(all, expected);
}

#[test]
fn what_comes_back_is_told_once_more() {
    let pages = Pages::default();
    pages.note("/pay", set("strict"), &[], 0);
    assert!(pages.note("/pay", set("weak"), &[], 5).is_some());
    // Two versions at the same time.
    assert_eq!(pages.note("/pay", set("strict"), &[], 6), None);
    assert_eq!(pages.note("/pay", set("weak"), &[], 7), None);
    assert_eq!(pages.note("/pay", set("strict"), &[], 3 * DAY), None);
    assert!(pages.note("/pay", set("weak"), &[], 3 * DAY + 5).is_some());
    assert_eq!(pages.note("/pay", set("weak"), &[], 9 * DAY), None);
}

#[test]
fn what_is_authorised_is_not_told() {
    let rules = [rule(Some("/pay/"), "b"), rule(None, "c")];
    let pages = Pages::default();
    // A page that is named has to have what was authorised, from the beginning.
    assert_eq!(
        pages.note("/pay/7", set("a"), &rules, 0).unwrap().page,
        "/pay/"
    );
    assert_eq!(pages.note("/pay/card", set("b"), &rules, 0), None);
    assert_eq!(pages.note("/pay/card", set("c"), &rules, 0), None);
    for one in ["a", "b", "c"] {
        let is_told = pages.note("/home", set(one), &rules, 0).is_some();
        assert_eq!(is_told, one == "b", "{one}");
    }
    assert!(
        pages
            .all()
            .iter()
            .all(|one| ["/pay/", "/home"].contains(&&*one.page))
    );
}

#[test]
fn pages_without_end_take_no_room_from_those_that_are_known_or_named() {
    let pages = Pages::default();
    pages.note("/pay", set("strict"), &[], 0);
    for number in 0..2 * MOST {
        let letters: String = number
            .to_string()
            .chars()
            .map(|c| (c as u8 + 50) as char)
            .collect();
        pages.note(&format!("/{letters}"), set("weak"), &[], 0);
    }
    assert!(pages.lock().by_page.len() <= MOST + 1);
    assert!(pages.note("/pay", set("weak"), &[], 0).is_some());
    let named = [rule(Some("/card"), "strict")];
    assert_eq!(
        pages.note("/card", set("weak"), &named, 0).unwrap().page,
        "/card"
    );
    // What has no room of its own is compared with its like.
    assert_eq!(pages.note("/none", set("weak"), &[], 0), None);
    assert_eq!(
        pages.note("/none", set("other"), &[], 0).unwrap().page,
        OTHERS
    );
}

#[test]
fn a_page_whose_fields_are_always_others_is_told_once_a_day() {
    let pages = Pages::default();
    let many = |from: usize, now| {
        let told = (from..from + MOST_SETS * 3).filter(|number| {
            pages
                .note("/", set(&number.to_string()), &[], now)
                .is_some()
        });
        told.count()
    };
    assert_eq!(many(0, 0), MOST_SETS);
    assert_eq!(many(100, 5), 0);
    assert_eq!(many(200, DAY), 1);
    assert_eq!(pages.all().len(), MOST_SETS + 1);
    let rules = [rule(None, "strict")];
    assert_eq!(pages.note("/", set("strict"), &rules, DAY), None);
    assert_eq!(pages.all().len(), MOST_SETS + 2);
}

#[test]
fn numbers_are_no_pages_of_their_own() {
    for (path, page) in [
        ("/", "/"),
        ("/orders/17/", "/orders/*/"),
        ("/v3/pay", "/v3/pay"),
        ("/0b9f6c1e-2a3b-4c5d-8e9f-001122334455", "/*"),
        ("/a\u{e9}b", "/ab"),
        (&format!("/{}", "a".repeat(MOST_LEN)), OTHERS),
    ] {
        assert_eq!(without_numbers(path), page);
    }
}

#[test]
fn it_goes_on_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fields.json");
    let pages = Pages::in_file(file.clone()).unwrap();
    pages.save().unwrap();
    assert!(!file.exists(), "there was nothing to write");
    pages.note("/pay", set("strict"), &[], 0);
    pages.save().unwrap();
    let again = Pages::in_file(file.clone()).unwrap();
    assert_eq!(again.all(), pages.all());
    assert!(again.note("/pay", set("weak"), &[], 0).is_some());
    std::fs::write(&file, "{}").unwrap();
    let error = Pages::in_file(file).unwrap_err().to_string();
    assert!(error.contains("fields.json cannot be used: "), "{error}");
}

#[test]
fn a_table_says_what_is_authorised_and_why() {
    let pages = Pages::default();
    pages.note("/pay", set("a: 1\nb: \"2\""), &[], 1_764_288_000);
    pages.note("/pay", set("a: 1"), &[], 1_764_374_400);
    let expected = "page,fields,hash,first seen,last seen,authorised,justification\r\n\
        /pay,\"a: 1\nb: \"\"2\"\"\",\"sha256-a: 1\nb: \"\"2\"\"\",2025-11-28,2025-11-28,no,\r\n\
        /pay,a: 1,sha256-a: 1,2025-11-29,2025-11-29,yes,as it was deployed\r\n";
    assert_eq!(table(&pages.all(), &[rule(None, "a: 1")]), expected);
}
