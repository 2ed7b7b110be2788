//! Pages as they should not be written, and what a browser makes of them.

use proptest::prelude::{ProptestConfig, proptest};

use super::{Encoding, Form, Page};

const PAGE: &str = r#"<!doctype html><html><head>
    <link rel="stylesheet" href="/static/site.css"><LINK REL='shortcut icon' HREF=/favicon.ico>
    <link rel="preload stylesheet" href="more.css?v=1&amp;w=2"><script src="//cdn.example/x.js"></script>
    <script>if (a < b) document.write("<a href='/never'>");</script></head>
    <body><!-- <a href="/hidden">x</a> --><img src="/static/logo.svg" alt=""><img src='/static/logo.svg'>
    <a class=x href=/items/42>one</a> <a href="43?a=b#c">two</a> <a href="mailto:x@y">mail</a>
    <form action="/directory/sign-in" method="POST">
      <input type="hidden" name="csrf" value="a&quot;b"><input name=user><input type=password name="password" required>
      <input type=checkbox name=keep checked><input type="checkbox" name="other"><input type="submit" name="go" value="Go">
      <select name="size"><option value="s">S</option><option selected> M &amp; L </option></select>
      <textarea name="reason">
 because &lt;x&gt;</textarea>
    </form>
    <form action="?q"><input name="words" value="ring"></form></body>"#;

fn paths(page: &Page) -> Vec<&str> {
    page.assets.iter().map(|asset| asset.path.as_str()).collect()
}

fn sent(form: &Form, values: &[(&str, &str)]) -> String {
    let values: Vec<(&str, String)> = values.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let fields = form.filled(&values);
    fields.iter().map(|field| format!("{}={}", field.name, field.value)).collect::<Vec<_>>().join("&")
}

#[test]
fn a_page_gives_links_assets_and_forms() {
    let page = Page::read(PAGE, "h:80", "/items/list");
    assert_eq!(page.links, ["/items/42", "/items/43?a=b"]);
    assert_eq!(paths(&page), ["/static/site.css", "/favicon.ico", "/items/more.css?v=1&w=2", "/static/logo.svg"]);
    assert_eq!(page.assets.iter().filter(|asset| asset.sheet).count(), 2);
    assert_eq!(page.foreign_assets, 1);
    let form = &page.forms[0];
    assert_eq!((form.action.as_deref(), form.post, form.encoding), (Some("/directory/sign-in"), true, Encoding::Url));
    assert_eq!(sent(form, &[]), "csrf=a\"b&user=&password=&keep=on&go=Go&size=M & L&reason= because <x>");
    assert_eq!((page.forms[1].action.as_deref(), page.forms[1].post), (Some("/items/list?q"), false));
    assert_eq!(sent(&page.forms[1], &[]), "words=ring");
}

#[test]
fn filling_replaces_adds_and_presses_a_button() {
    let html = "<form><input name=a value=1><input name=a value=2><button name=ok value=yes>OK</button>\
                <input type=submit name=no value=never></form>";
    let form = Page::read(html, "h", "/").forms.swap_remove(0);
    assert_eq!(sent(&form, &[]), "a=1&a=2&ok=yes");
    assert_eq!(sent(&form, &[("a", "3"), ("b", "4")]), "a=3&a=2&ok=yes&b=4");
    assert_eq!(sent(&form, &[("no", "never")]), "a=1&a=2&no=never");
}

#[test]
fn controls_belong_to_forms_and_some_send_nothing() {
    let html = "<input form=later name=before value=1><form id=first><input name=a>\
        <form id=inner action=/wrong><input name=b></form><input name=c>\
        <form id=later method=post enctype='Multipart/Form-Data' action='//elsewhere/'>\
        <input name=d disabled><fieldset disabled><input name=e><fieldset><input name=f></fieldset></fieldset>\
        <fieldset><input name=g value='x\ny'></fieldset><input type=file name=h><input type=reset name=i value=1>\
        <input type=button name=j value=1><button type=button name=k value=1></button><input value=unnamed>\
        <input type=radio name=l value=1><input type=radio name=l value=2 checked><textarea name=m>\n\na\n</textarea>\
        </form><template><form id=first><input name=z></form></template>";
    let page = Page::read(html, "h", "/p?q");
    assert_eq!(page.forms.len(), 2);
    assert_eq!(sent(&page.forms[0], &[]), "a=&b=");
    assert_eq!(page.forms[0].action.as_deref(), Some("/p?q"));
    assert_eq!(sent(&page.forms[1], &[]), "before=1&g=xy&h=&l=2&m=\na\n");
    assert_eq!((page.forms[1].action.as_deref(), page.forms[1].encoding), (None, Encoding::Multipart));
}

#[test]
fn choices_send_what_is_chosen() {
    let choice = |options: &str| {
        let page = Page::read(&format!("<form>{options}</form>"), "h", "/");
        sent(&page.forms[0], &[])
    };
    assert_eq!(choice("<select name=s><option>a  b\n</option><option>c</select>"), "s=a b");
    assert_eq!(choice("<select name=s><option disabled value=''>pick<option value=1>one</select>"), "s=1");
    assert_eq!(choice("<select name=s><option selected disabled value=''>pick<option value=1>one</select>"), "");
    assert_eq!(choice("<select name=s><option selected>a<option selected>b</select>"), "s=b");
    assert_eq!(choice("<select name=s multiple><option selected>a<option>b<option selected>c</select>"), "s=a&s=c");
    assert_eq!(choice("<select name=s><optgroup disabled><option>a</optgroup><option>b</select>"), "s=b");
    assert_eq!(
        choice("<select name=s disabled><option>a</select><select name=t><option>&eacute;&amp;</select>"),
        "t=é&"
    );
}

#[test]
fn assets_are_what_a_desktop_browser_loads() {
    let html = r#"<base href="/deep/"><base href="/ignored/">
        <link rel="alternate stylesheet" href=a.css><link rel=stylesheet type=text/less href=no.less>
        <link rel=stylesheet media=print href=print.css><link rel=preload as=font href=f.woff2><link rel=preload href=no>
        <link rel=prefetch href=no><link rel=modulepreload href=m.js><link rel=canonical href=/no>
        <script src=s.js></script><script type=application/json src=no.json></script><script nomodule src=no.js></script>
        <script type="text/javascript; charset=utf-8" src=/t.js></script>
        <style>@import "i.css"; p { background: url(bg.png) }</style><div style="background:url('&#100;iv.png')"></div>
        <img src=one.png srcset="two.png 2x"><img srcset="s.png 640w, l.png 1280w" sizes=50vw>
        <picture><source media=print srcset=no.png><source type=image/webp srcset="p.webp 1x, p2.webp 2x"><source srcset=no.png><img src=no.png></picture>
        <img src=data:image/png;base64,AAAA><img src=""><video poster=v.jpg src=no.mp4></video>
        <svg><image href=svg.png /></svg><input type=image src=button.png><noscript><img src=no.png></noscript>
        <template><img src=no.png></template><iframe src=no.html><img src=no.png></iframe>"#;
    let expected =
        "a.css print.css f.woff2 m.js s.js /t.js i.css bg.png div.png one.png s.png p.webp v.jpg svg.png button.png";
    let deep = |name: &str| if name.starts_with('/') { name.to_owned() } else { format!("/deep/{name}") };
    let expected: Vec<String> = expected.split(' ').map(deep).collect();
    assert_eq!(paths(&Page::read(html, "h", "/")), expected);
}

#[test]
fn a_page_may_ask_for_so_much_and_no_more() {
    let html: String = (0..super::ASSETS_MAX + 10).map(|number| format!("<img src=/{number}>")).collect();
    assert_eq!(Page::read(&html, "h", "/").assets.len(), super::ASSETS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_page_makes_it_panic(text in "[<>/=\"' a-z&;#!é()-]{0,120}") {
        Page::read(&text, "h", "/");
    }

    #[test]
    fn no_soup_of_tags_makes_it_panic(tags in proptest::collection::vec(
        proptest::sample::select(vec![
            "<form>", "</form>", "<select name=a>", "<option selected>", "</select>", "<script>", "</script>", "<!--", "-->",
            "<img srcset='a 1x, (", "<style>@import url(", "<template>", "</template>", "<fieldset disabled>", "</fieldset>",
            "<a href='", "'>", "<base href=//x>", "é", "<picture>", "<source srcset=x>", "style='url(\\",
        ]), 0..30)) {
        Page::read(&tags.concat(), "h", "/");
    }
}
