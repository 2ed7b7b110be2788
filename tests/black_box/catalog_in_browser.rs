//! The catalog in a real browser: by keyboard alone, without scripts, and where something is wrong.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::catalog::torn;
use crate::support::appliance::{Appliance, Setup};
use crate::support::origin::{Origin, Said};
use crate::support::webdriver::{Browser, ENTER};

const PATH: &str = "location.pathname";
const SIGN_OUT: &str = "form[action=\"/directory/sign-out\"] button";

/// An appliance with a supplier who takes every order.
fn with_supplier(setup: Setup) -> (Appliance, Origin) {
    let suppliers = Origin::tcp(|_| Said::ok("taken"));
    (setup.set("backends.suppliers", &suppliers.address).start(), suppliers)
}

#[track_caller]
fn sign_in(browser: &Browser, http: SocketAddr, user: &str, path: &str) {
    browser.open(&format!("http://{http}/directory/sign-in?next={path}"));
    browser.fill("#user", user);
    browser.fill("#password", &format!("{user}-password"));
    browser.click("form.card button");
    browser.until("the page after signing in", &format!("{PATH} === '{path}'"));
}

/// What the page shows where an expression points to.
#[track_caller]
fn shown(browser: &Browser, selector: &str) -> String {
    let text = browser.run(&format!("return document.querySelector({})?.innerText ?? ''", json!(selector)));
    text.as_str().unwrap().to_owned()
}

/// No page had an error, and everything came from the appliance itself.
#[track_caller]
fn all_is_well(browser: &Browser, http: SocketAddr) {
    assert_eq!(browser.errors(), Vec::<String>::new());
    let own = format!("http://{http}/");
    let asked = browser.asked();
    assert!(asked.iter().any(|address| *address == format!("{own}reqcat/static/style.css")), "{asked:?}");
    let foreign: Vec<&String> =
        asked.iter().filter(|address| !address.starts_with(&own) && !address.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "asked of others: {foreign:?}");
}

/// Goes to a link or button by Tab, sees that the focus shows, and presses Enter.
#[track_caller]
fn press_on(browser: &Browser, selector: &str) {
    browser.tab_to(selector);
    let ring = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(ring, "solid", "the focus on {selector} shows");
    browser.press(ENTER);
}

#[test]
fn alice_orders_by_keyboard_alone_and_sees_what_bob_decides() {
    let Some(browser) = Browser::start() else { return };
    let (appliance, _suppliers) = with_supplier(Setup::shipped());
    let http = appliance.http;

    // Alice signs in; the first field has the focus already.
    browser.open(&format!("http://{http}/reqcat/"));
    press_on(&browser, ".bar .who a.button");
    browser.until("the form", "document.activeElement.id === 'user'");
    browser.press("alice\u{e004}alice-password");
    browser.press(ENTER);
    browser.until("the catalog", &format!("{PATH} === '/reqcat/'"));
    assert_eq!(shown(&browser, ".who .name"), "Alice Archer");

    // Results come while she types, and the words stay in the address.
    browser.press("/compiler");
    browser.until("the found items", "document.querySelector('#results .count').textContent.startsWith('20 items')");
    browser.until("the words in the address", "location.search.includes('words=compiler')");
    assert_eq!(browser.run("return document.activeElement.id"), "words", "she may go on typing");
    press_on(&browser, ".items a[href$=\"/item-03\"]");
    browser.until("the item", "document.querySelector('h1')?.textContent === 'item-03'");
    browser.tab_to("#quantity");
    // A field that is reached by Tab is selected: what is typed replaces it.
    browser.press("4");
    press_on(&browser, "form.order button");
    browser.until("the cart", &format!("{PATH} === '/reqcat/cart'"));
    assert_eq!(shown(&browser, ".cart"), "Cart 1");
    assert_eq!(browser.run("return document.querySelector('.lines input[type=number]').value"), "4");

    // A changed quantity is sent when the field is left.
    browser.tab_to(".lines input[type=number]");
    browser.press("6\u{e004}");
    browser.until("the new quantity", "document.querySelector('.lines input[type=number]').defaultValue === '6'");
    press_on(&browser, ".actions a[href$=\"/cart/order\"]");
    browser.until("the requisition's form", &format!("{PATH} === '/reqcat/cart/order'"));
    browser.tab_to("#reason");
    browser.press("for the new colleague");
    press_on(&browser, "form.card .actions button");
    browser.until("the draft", "document.querySelector('#requisition .state')?.textContent === 'draft'");
    let path = browser.run(&format!("return {PATH}")).as_str().unwrap().to_owned();
    assert!(path.starts_with("/reqcat/requisitions/"), "{path}");
    assert_eq!(shown(&browser, ".cart"), "Cart", "the cart is empty again");
    press_on(&browser, "form[action$=\"/submit\"] button");
    browser.until("the posted requisition", "document.getElementById('posting')?.textContent === 'posted'");

    // Bob decides elsewhere.
    let Some(other) = Browser::start() else { return };
    sign_in(&other, http, "bob", "/reqcat/approvals");
    other.until("alice's requisition", "document.querySelector('tbody tr')?.textContent.includes('alice')");
    other.click("tbody a");
    other.until("the requisition", &format!("{PATH} === '{path}'"));
    other.fill("#remark", "welcome to her");
    other.click("#requisition form.order button");
    other.until("the decision", "document.querySelector('#requisition .state')?.textContent === 'approved'");
    other.open(&format!("http://{http}/reqcat/approvals"));
    other.until("an empty queue", "document.querySelector('.empty')?.textContent.includes('Nothing waits')");
    all_is_well(&other, http);

    // Alice's page follows by itself, and says so once to those who hear it.
    browser.until("the decision", "document.querySelector('#requisition .state').textContent === 'approved'");
    assert_eq!(browser.run("return document.querySelector('body > [role=status]').textContent.trim()"), "approved");
    let trail = shown(&browser, ".trail");
    for step in ["draft by alice", "submitted by alice", "approved by bob", "welcome to her"] {
        assert!(trail.contains(step), "{step}: {trail}");
    }
    press_on(&browser, SIGN_OUT);
    browser.until("the way in", &format!("{PATH} === '/directory/sign-in'"));
    all_is_well(&browser, http);
}

#[test]
fn the_way_from_search_to_approval_needs_no_script() {
    let Some(browser) = Browser::start() else { return };
    let (appliance, _suppliers) = with_supplier(Setup::shipped());
    let http = appliance.http;
    browser.without_scripts();
    sign_in(&browser, http, "alice", "/reqcat/");
    assert_eq!(browser.run("return document.querySelector('body > [role=status]')"), Value::Null, "no script has run");
    browser.fill("#words", "compiler");
    browser.click(".search button");
    browser.until("the found items", "document.querySelector('.count')?.textContent.startsWith('20 items')");
    browser.click(".items a[href$=\"/item-03\"]");
    browser.until("the item", "document.querySelector('h1')?.textContent === 'item-03'");
    browser.click("form.order button");
    browser.until("the cart", &format!("{PATH} === '/reqcat/cart'"));
    browser.run("document.querySelector('.lines input[type=number]').value = ''");
    browser.fill(".lines input[type=number]", "7");
    browser.click(".lines [data-plain]");
    browser.until("the new quantity", "document.querySelector('.lines input[type=number]')?.defaultValue === '7'");
    browser.click(".actions a[href$=\"/cart/order\"]");
    browser.until("the requisition's form", &format!("{PATH} === '/reqcat/cart/order'"));
    browser.fill("#reason", "no script");
    browser.click("form.card .actions button");
    browser.until("the draft", "document.querySelector('#requisition .state')?.textContent === 'draft'");
    let path = browser.run(&format!("return {PATH}")).as_str().unwrap().to_owned();
    browser.click("form[action$=\"/submit\"] button");
    // The page asks for itself until the supplier has answered.
    browser.until("the posted requisition", "document.getElementById('posting')?.textContent === 'posted'");
    browser.click(SIGN_OUT);
    browser.until("the way in", &format!("{PATH} === '/directory/sign-in'"));

    sign_in(&browser, http, "bob", "/reqcat/approvals");
    browser.click("tbody a");
    browser.until("the requisition", &format!("{PATH} === '{path}'"));
    browser.fill("#remark", "no script either");
    browser.click("#requisition form.order button.bad");
    browser.until("the decision", "document.querySelector('#requisition .state')?.textContent === 'rejected'");
    let trail = shown(&browser, ".trail");
    assert!(trail.contains("rejected by bob") && trail.contains("no script either"), "{trail}");
    all_is_well(&browser, http);
}

#[test]
fn a_reason_that_is_being_written_outlives_a_changed_quantity() {
    let Some(browser) = Browser::start() else { return };
    let (appliance, _suppliers) = with_supplier(Setup::shipped());
    let mut alice = appliance.user("alice");
    for item in ["item-03", "item-07"] {
        assert_eq!(alice.post("/reqcat/cart/add", &[("item", item), ("quantity", "2")]).status, 303);
    }
    let ordered = alice.post("/reqcat/cart/order", &[("cart", "alice"), ("reason", "as it was")]);
    let edit = format!("{}/edit", ordered.location());
    sign_in(&browser, appliance.http, "alice", &edit);
    browser.run("document.getElementById('reason').value = 'half a sentence'");
    browser.run(
        "const field = document.getElementById('quantity-1'); field.value = '5'; field.dispatchEvent(new Event('change'))",
    );
    browser.until("the new quantity", "document.getElementById('quantity-1')?.defaultValue === '5'");
    browser.until("the sentence", "document.getElementById('reason').value === 'half a sentence'");
    assert_eq!(browser.run("return document.getElementById('reason').defaultValue"), "as it was", "nothing was saved");
    // It is given back once: who comes again later sees what is stored.
    browser.open(&format!("http://{}{edit}", appliance.http));
    browser.until("the stored reason", "document.getElementById('reason')?.value === 'as it was'");
    all_is_well(&browser, appliance.http);
}

/// The field that has the focus, whether it is marked as wrong, and what is said about it.
const WRONG_FIELD: &str = "return (() => { const field = document.activeElement; return [field.id, \
    field.getAttribute('aria-invalid'), document.getElementById(field.getAttribute('aria-describedby'))?.textContent]; })()";

#[test]
fn what_is_wrong_stands_beside_its_field_and_two_versions_are_shown_to_their_owner() {
    let Some(browser) = Browser::start() else { return };
    let setup = Setup::shipped().set("cluster.fronts", "2").set("cluster.replicas", "3");
    let (appliance, _suppliers) = with_supplier(setup.set("dispatch.policy", "round-robin"));
    let http = appliance.http;
    sign_in(&browser, http, "alice", "/reqcat/items/item-05");

    // The browser itself stops what it can see; what reaches the server is answered beside the field.
    browser.run("document.getElementById('quantity').value = '0'");
    browser.click("form.order button");
    assert_eq!(browser.run("return document.querySelector('#quantity').validity.rangeUnderflow"), true);
    assert_eq!(shown(&browser, "h1"), "item-05", "nothing was sent");
    browser.run("document.querySelector('form.order').noValidate = true");
    browser.click("form.order button");
    browser.until("the refusal", "document.getElementById('quantity-error') !== null");
    assert_eq!(browser.run(WRONG_FIELD), json!(["quantity", "true", "1 at least, please."]));
    assert_eq!(browser.run("return document.activeElement.value"), "0", "what was typed is kept");
    assert!(shown(&browser, "[role=alert]").contains("Nothing was saved yet"));
    let answered: Vec<String> = browser.errors();
    assert!(answered.iter().all(|line| line.contains("422")), "{answered:?}");

    let mut alice = appliance.user("alice");
    let path = alice.draft("item-08", "1");
    let torn = torn(&appliance, &mut alice, &path);
    let reason = |version: &Value| version["row"]["reason"].as_str().unwrap().to_owned();
    let (kept, lost) = (reason(&torn), reason(&torn["conflicts"][0]));
    browser.open(&format!("http://{http}{path}"));
    let versions = shown(&browser, ".versions");
    assert!(versions.contains(&kept) && versions.contains(&lost), "{versions}");
    browser.click(".versions form:nth-child(2) button");
    browser.until("one version", "document.querySelector('#requisition') && !document.querySelector('.versions')");
    let facts = shown(&browser, "#requisition > dl");
    assert!(facts.contains(&lost) && !facts.contains(&kept), "{facts}");

    // What cannot be undone asks first.
    browser.click("form[action$=\"/withdraw\"] button");
    browser.agree();
    browser.until("the withdrawal", "document.querySelector('#requisition .state')?.textContent === 'withdrawn'");
    all_is_well(&browser, http);
}
