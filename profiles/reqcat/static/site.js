// What makes the pages better where scripts run; without it every page works by links and forms.
'use strict';
(() => {
  const ask = async (address, signal) => {
    const answer = await fetch(address, { signal, headers: { accept: 'text/html' }, credentials: 'same-origin' });
    if (!answer.ok || answer.redirected) throw new Error(answer.status);
    return new DOMParser().parseFromString(await answer.text(), 'text/html');
  };

  // One place that is read aloud, because what stands in the page is replaced as a whole.
  const told = document.createElement('p');
  told.className = 'hidden';
  told.setAttribute('role', 'status');
  document.body.append(told);
  const tell = (place) => { told.textContent = place.querySelector('[data-tell]')?.textContent ?? ''; };

  // Search while somebody types: the same page is asked for, and its results take the place of these.
  for (const form of document.querySelectorAll('form[data-live]')) {
    const field = form.querySelector('input[type=search]');
    let timer = 0, under = null, shown = field.value.trim();
    const search = async () => {
      const words = field.value.trim();
      if (words === shown) return;
      under?.abort();
      under = new AbortController();
      const place = document.getElementById(form.dataset.live);
      const sent = new URLSearchParams(new FormData(form));
      sent.set('words', words);
      const address = `${form.getAttribute('action')}?${sent}`;
      place.setAttribute('aria-busy', 'true');
      try {
        const page = await ask(address, under.signal);
        place.replaceChildren(...page.getElementById(form.dataset.live).childNodes);
        document.title = page.title;
        history.replaceState(null, '', address);
        tell(place);
        shown = words;
        place.removeAttribute('aria-busy');
      } catch (error) {
        if (error.name !== 'AbortError') place.removeAttribute('aria-busy');
      }
    };
    field.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(search, 250); });
  }
  // "/" goes to the search field, as on many sites.
  document.addEventListener('keydown', (event) => {
    const field = document.querySelector('input[type=search]');
    if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || !field) return;
    if (event.target.closest('input, textarea, select')) return;
    event.preventDefault();
    field.focus();
    field.select();
  });

  // What cannot be undone asks first; a form is sent once.
  document.addEventListener('submit', (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !confirm(question)) { event.preventDefault(); return; }
    if (event.target.method !== 'post') return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = 'yes';
  });
  addEventListener('pageshow', () => document.querySelectorAll('[data-sent]').forEach((form) => delete form.dataset.sent));
  // A changed quantity is sent when the field is left.
  for (const field of document.querySelectorAll('[data-submit]')) {
    field.form.querySelector('[data-plain]').hidden = true;
    field.addEventListener('change', () => { if (field.reportValidity()) field.form.requestSubmit(); });
  }

  // A changed line loads the page anew: what somebody has typed beside it goes with it, in this tab, once.
  for (const field of document.querySelectorAll('[data-keep]')) {
    const key = `typed at ${location.pathname} into ${field.name}`;
    try {
      const typed = sessionStorage.getItem(key);
      sessionStorage.removeItem(key);
      if (typed !== null) field.value = typed;
      document.addEventListener('submit', (event) => {
        if (event.target !== field.form && field.value !== field.defaultValue) sessionStorage.setItem(key, field.value);
      });
    } catch { /* Storage is switched off: it is typed again. */ }
  }

  // A submitted requisition shows what becomes of it. What somebody is typing stays.
  const watch = async () => {
    const card = document.querySelector('[data-watch]');
    if (!card) return;
    let pause = 1000;
    while (card.isConnected && card.dataset.watch) {
      await new Promise((done) => setTimeout(done, pause));
      if (document.hidden || card.contains(document.activeElement)) continue;
      try {
        const page = await ask(card.dataset.watch);
        const now = page.getElementById('requisition');
        pause = Math.min(pause * 1.2, 10000);
        if (now.innerHTML !== card.innerHTML) {
          card.replaceChildren(...now.childNodes);
          document.title = page.title;
          tell(card);
          pause = 1000;
        }
        if (!now.dataset.watch) delete card.dataset.watch;
      } catch {
        pause = 10000;
      }
    }
  };
  watch();

  // The number beside "Cart" is what this browser saw last, so that no page has to ask for it.
  const link = document.querySelector('[data-cart]');
  if (link) {
    const key = `cart of ${link.dataset.cart}`;
    const counted = document.querySelector('[data-cart-count]');
    try {
      if (counted) localStorage.setItem(key, counted.dataset.cartCount);
      const count = Number(localStorage.getItem(key));
      if (count) {
        const badge = document.createElement('b');
        badge.textContent = count;
        link.append(' ', badge);
      }
      // If the order is refused, its page comes again and counts anew.
      document.querySelector('form[data-cart-count]')?.addEventListener('submit', () => localStorage.removeItem(key));
    } catch { /* Storage is switched off: no number. */ }
  }
})();
