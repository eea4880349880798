//! The texts of the console, each in English and in German, in one table: a text in one language only does not compile.
//!
//! A text may have places `{}`, which are filled in their order. Names of states, reasons and actions are public interface and stay
//! as they are.
//!
//! Before: the pages of [`crate::console`]. After: the person who reads.

use crate::domain::names::names;

names! {
    /// A language of the console.
    pub enum PageLanguage {
        English = "en",
        German = "de",
    }
}

/// A text in each language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    en: &'static str,
    de: &'static str,
}

impl Text {
    /// A text in each language, of a table of its own.
    pub(super) const fn new(en: &'static str, de: &'static str) -> Self {
        Self { en, de }
    }

    /// The text in this language.
    pub(super) const fn of(self, language: PageLanguage) -> &'static str {
        match language {
            PageLanguage::English => self.en,
            PageLanguage::German => self.de,
        }
    }

    /// The text in this language, with its places filled.
    pub(super) fn filled(self, language: PageLanguage, values: &[&str]) -> String {
        let mut pieces = self.of(language).split("{}");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.zip(values).fold(first, |text, (piece, value)| text + value + piece)
    }
}

/// Declares the texts: a name, then English and German.
macro_rules! texts {
    ($($name:ident: $en:literal, $de:literal;)+) => {
        $(pub(super) const $name: Text = Text { en: $en, de: $de };)+

        #[cfg(test)]
        const ALL: &[(&str, Text)] = &[$((stringify!($name), $name)),+];
    };
}

texts! {
    // The frame of every page.
    BRAND: "podero-bridge", "podero-bridge";
    SKIP: "Skip to the content", "Zum Inhalt springen";
    NAVIGATION: "Pages", "Seiten";
    LOG_OUT: "Log out", "Abmelden";
    // A reader who does not understand the page finds the way out of its language.
    LANGUAGE: "Language / Sprache", "Sprache / Language";
    THEME: "Theme", "Darstellung";
    THEME_SYSTEM: "System", "System";
    THEME_LIGHT: "Light", "Hell";
    THEME_DARK: "Dark", "Dunkel";
    TIME_ZONE: "Times in", "Zeiten in";
    OF_BROWSER: "This browser's zone", "Zone des Browsers";
    SAME_BY_COMMAND: "The same by command or API", "Dasselbe per Befehl oder API";
    COPY: "Copy", "Kopieren";
    COPIED: "Copied", "Kopiert";
    NOT_COPIED: "Not copied", "Nicht kopiert";
    LIVE: "Pause refresh", "Aktualisierung anhalten";
    PAUSED: "Paused – resume", "Angehalten – fortsetzen";
    KEYS: "Keys", "Tasten";
    KEY_SEARCH: "Search", "Suchen";
    KEY_ROWS: "Next and previous row; Enter opens it", "Nächste und vorige Zeile; Enter öffnet sie";
    KEY_RELOAD: "Reload", "Neu laden";
    KEY_HELP: "This help", "Diese Hilfe";
    CLOSE: "Close", "Schließen";

    // Times.
    JUST_NOW: "just now", "gerade eben";
    SECONDS_AGO: "{} s ago", "vor {} s";
    MINUTES_AGO: "{} min ago", "vor {} min";
    HOURS_AGO: "{} h ago", "vor {} Std.";
    DAYS_AGO: "{} d ago", "vor {} T.";
    IN_SECONDS: "in {} s", "in {} s";
    IN_MINUTES: "in {} min", "in {} min";
    IN_HOURS: "in {} h", "in {} Std.";
    IN_DAYS: "in {} d", "in {} T.";

    // The login.
    LOG_IN: "Log in", "Anmelden";
    NAME: "Name", "Name";
    PASSWORD: "Password", "Passwort";
    LOGIN_ABOUT: "The console of the bridge, for its operators.", "Die Konsole der Bridge, für ihre Operatoren.";
    LOGIN_WRONG: "The name and the password do not belong together.", "Name und Passwort gehören nicht zusammen.";
    LOGIN_WAIT: "Too many wrong passwords by this address or for this name. Try again in {} s.",
        "Zu viele falsche Passwörter von dieser Adresse oder für diesen Namen. Neuer Versuch in {} s.";
    LOGIN_CROWDED: "Too many passwords wait to be checked. Try again.",
        "Zu viele Passwörter warten auf ihre Prüfung. Bitte noch einmal versuchen.";
    LOGIN_ENDED: "You are logged out.", "Sie sind abgemeldet.";
    LINK_ABOUT: "You started this sandbox, and its login link lets you in once.",
        "Sie haben diese Sandbox gestartet; ihr Anmeldelink lässt Sie einmal ein.";
    LINK_OPEN: "Open the console", "Konsole öffnen";
    LINK_OVER: "This login link was used already, or is too old. Start the sandbox again, or log in as an operator.",
        "Dieser Anmeldelink wurde schon benutzt oder ist zu alt. Starten Sie die Sandbox neu, oder melden Sie sich als Operator an.";
    OIDC_LOG_IN: "Log in with {}", "Mit {} anmelden";
    OIDC_FAILED: "The login did not succeed", "Die Anmeldung ist nicht gelungen";
    OIDC_STATE_DETAIL: "This answer belongs to no login that this browser began within the last ten minutes. Begin it again.",
        "Diese Antwort gehört zu keiner Anmeldung, die dieser Browser in den letzten zehn Minuten begonnen hat. Beginnen Sie noch einmal.";
    OIDC_DENIED_DETAIL: "The identity provider refused the login.", "Der Identitätsanbieter hat die Anmeldung abgelehnt.";
    OIDC_REFUSED_DETAIL: "The identity provider does not accept the bridge's request. An administrator finds more in its log.",
        "Der Identitätsanbieter nimmt die Anfrage der Bridge nicht an. Ein Administrator findet mehr in dessen Protokoll.";
    OIDC_AWAY_DETAIL: "The identity provider does not answer. Operators with a password can log in all the same.",
        "Der Identitätsanbieter antwortet nicht. Operatoren mit Passwort können sich trotzdem anmelden.";
    OIDC_TOKEN_DETAIL: "The identity provider's proof of who you are is not valid. The log of the bridge says why.",
        "Der Nachweis des Identitätsanbieters, wer Sie sind, ist nicht gültig. Das Protokoll der Bridge nennt den Grund.";
    OIDC_NO_ROLE: "You have no role here", "Sie haben hier keine Rolle";
    OIDC_NO_ROLE_DETAIL: "{} knows you, but gives you none of the roles that the bridge knows. Ask your administrator for one.",
        "{} kennt Sie, gibt Ihnen aber keine der Rollen, die die Bridge kennt. Bitten Sie Ihren Administrator darum.";
    NO_OPERATORS: "There are no operators yet. Add one on the machine of the bridge:",
        "Es gibt noch keine Operatoren. Legen Sie auf dem Rechner der Bridge einen an:";

    // Errors.
    ERROR_STATUS: "Status", "Status";
    ERROR_ID: "The log of the bridge has a line with this id:", "Das Protokoll der Bridge hat eine Zeile mit dieser Kennung:";
    ERROR_BACK: "To the overview", "Zur Übersicht";
    ERROR_BAD: "The request is not valid", "Die Anfrage ist ungültig";
    ERROR_BAD_DETAIL: "The address or the form has a value that this page does not take. Go back, correct the value, and try again.",
        "Die Adresse oder das Formular enthält einen Wert, den diese Seite nicht annimmt. Gehen Sie zurück, berichtigen Sie den Wert, und versuchen Sie es noch einmal.";
    ERROR_UNKNOWN: "Not found", "Nicht gefunden";
    ERROR_UNKNOWN_DETAIL: "There is no such page, or nothing has this id. It may be mistyped, or the bridge has deleted it since. Check the address, or search for it.",
        "Diese Seite gibt es nicht, oder nichts hat diese Kennung. Vielleicht ist sie falsch geschrieben, oder die Bridge hat es inzwischen gelöscht. Prüfen Sie die Adresse, oder suchen Sie danach.";
    ERROR_ROLE: "Your role is not enough", "Ihre Rolle reicht nicht aus";
    ERROR_ROLE_DETAIL: "This takes the role {}; you have {}.", "Das verlangt die Rolle {}; Sie haben {}.";
    ERROR_FOREIGN: "Another site asked for this", "Eine andere Website hat das angefordert";
    ERROR_FOREIGN_DETAIL: "The request did not come from a page of this console, so nothing was done. Open the page again and repeat it there.",
        "Die Anfrage kam nicht von einer Seite dieser Konsole; es wurde nichts getan. Öffnen Sie die Seite neu und wiederholen Sie es dort.";
    ERROR_HOST: "The console is not reached by this name", "Unter diesem Namen gibt es die Konsole nicht";
    ERROR_HOST_DETAIL: "Without console.base_url it answers to localhost and loopback addresses only.",
        "Ohne console.base_url antwortet sie nur unter localhost und Loopback-Adressen.";
    ERROR_CONFLICT: "Not possible in the present state", "Im jetzigen Zustand nicht möglich";
    ERROR_CONFLICT_DETAIL: "Nothing was changed. Open the page again to see the present state.",
        "Es wurde nichts geändert. Öffnen Sie die Seite neu, um den jetzigen Zustand zu sehen.";
    ERROR_UNFIT: "A value is missing or not allowed", "Ein Wert fehlt oder ist nicht erlaubt";
    ERROR_METHOD: "This address takes a form, not a link", "Diese Adresse nimmt ein Formular an, keinen Link";
    ERROR_METHOD_DETAIL: "Nothing was done. Go to the page with the button, and press it there.",
        "Es wurde nichts getan. Gehen Sie zu der Seite mit dem Knopf, und drücken Sie ihn dort.";
    ERROR_TOO_MUCH: "Too many requests", "Zu viele Anfragen";
    ERROR_TOO_MUCH_DETAIL: "Nothing was done. Wait a minute, and try again.",
        "Es wurde nichts getan. Warten Sie eine Minute, und versuchen Sie es noch einmal.";
    ERROR_AWAY: "Not possible right now", "Im Moment nicht möglich";
    ERROR_AWAY_DETAIL: "A part that is needed does not answer. Try again in a minute; the overview shows which part is not well.",
        "Ein Teil, der gebraucht wird, antwortet nicht. Versuchen Sie es in einer Minute noch einmal; die Übersicht zeigt, welcher Teil gestört ist.";
    ERROR_OWN: "An error in the bridge", "Ein Fehler in der Bridge";
    ERROR_OWN_DETAIL: "It is written to the log. Try again; if it comes back, give the id below to the one who runs the bridge.",
        "Er steht im Protokoll. Versuchen Sie es noch einmal; kommt er wieder, geben Sie die Kennung unten an den Betreiber der Bridge.";

    // The overview.
    OVERVIEW: "Overview", "Übersicht";
    ALL_WELL: "Everything is well.", "Alles in Ordnung.";
    NOT_WELL: "Something is not well: see the parts below.", "Etwas ist nicht in Ordnung: siehe die Teile unten.";
    PARTS: "Parts", "Teile";
    PART: "Part", "Teil";
    STATE: "State", "Zustand";
    WELL: "well", "in Ordnung";
    ILL: "not well", "gestört";
    PENDING: "Pending events", "Offene Ereignisse";
    OLDEST_PENDING: "Oldest pending", "Ältestes offenes";
    SCHEDULED: "Scheduled events", "Geplante Ereignisse";
    PARKED_EVENTS: "Parked events", "Geparkte Ereignisse";
    OUTBOX: "Outgoing, not sent", "Ausgehend, nicht gesendet";
    OPEN_ALERTS: "Open alerts", "Offene Alarme";
    // Words of several pages.
    NEXT_PAGE: "Next page", "Nächste Seite";
    EVENT: "Event", "Ereignis";
    ID: "Id", "Kennung";
    WHOSE: "Whose", "Von wem";
    REASON: "Reason", "Grund";
    SINCE: "Since", "Seit";
    AT: "When", "Wann";
    CALL: "Call", "Aufruf";
    ANSWER: "Answer", "Antwort";
    TOOK: "Took", "Dauer";
    ACTOR: "Actor", "Wer";
    ACT: "Action", "Aktion";
    TARGET: "About", "Worüber";
    OUTCOME: "Outcome", "Ergebnis";
    DETAILS: "Details", "Einzelheiten";
    ERASED: "erased", "gelöscht";
    ACTS_OF_OPERATORS: "What operators did", "Was Operatoren getan haben";
    FOR_SUPPORT: "Personal data is for the role support.", "Personenbezogene Daten sieht die Rolle support.";
    FOR_ADMINS: "Retry, approve and skip are for the role admin.", "Wiederholen, freigeben und überspringen darf die Rolle admin.";
    YES: "yes", "ja";
    CANCEL: "Cancel", "Abbrechen";

    // Customers.
    CUSTOMERS: "Customers", "Kunden";
    CUSTOMER: "Customer", "Kunde";
    CUSTOMER_ID: "Customer id", "Kundennummer";
    SHOW: "Show", "Anzeigen";
    EMAIL: "E-mail address", "E-Mail-Adresse";
    FIND: "Find", "Suchen";
    FOUND: "Customers with this address", "Kunden mit dieser Adresse";
    FOUND_MORE: "There may be more.", "Es kann weitere geben.";
    NONE_FOUND: "No customer has this address.", "Kein Kunde hat diese Adresse.";
    NONE_FOUND_NEXT: "The whole address is compared, in letters of any case, with those of customers whose sign-up was carried out. Ask for the customer id.",
        "Verglichen wird die ganze Adresse, ohne Groß- und Kleinschreibung, mit denen der Kunden, deren Anmeldung ausgeführt ist. Fragen Sie nach der Kundennummer.";
    NOT_DONE: "Events that are not done", "Ereignisse, die nicht erledigt sind";
    WAITS_FOR: "Waits for", "Wartet auf";
    NEXT_TRY: "Next try", "Nächster Versuch";
    NOTHING_WAITS: "No event is in this state.", "Kein Ereignis ist in diesem Zustand.";
    NOTHING_WAITS_NEXT: "Search for a customer by id, or choose another state.", "Suchen Sie einen Kunden nach seiner Nummer, oder wählen Sie einen anderen Zustand.";
    TIMELINE: "Timeline", "Verlauf";
    NOTHING_HAPPENED: "Nothing has happened yet.", "Es ist noch nichts geschehen.";
    NOTHING_HAPPENED_NEXT: "Events of this customer appear here as soon as they arrive.", "Ereignisse dieses Kunden erscheinen hier, sobald sie eintreffen.";
    CALLS: "calls to Podero", "Aufrufe bei Podero";
    DATA_SENT: "Data that was sent", "Gesendete Daten";
    HEAT_PUMPS: "Heat pumps", "Wärmepumpen";
    HEAT_PUMP: "Heat pump", "Wärmepumpe";
    ALERT: "Alert", "Alarm";
    CHECKED: "Checked", "Geprüft";
    RETIRED: "no longer watched", "nicht mehr überwacht";
    FACTS: "What is known", "Was bekannt ist";
    FACTS_SHOW: "Show the facts about this customer", "Die Angaben zu diesem Kunden zeigen";
    NO_FACTS: "Nothing is known yet.", "Es ist noch nichts bekannt.";

    // One event.
    ACT_DONE: "Done.", "Erledigt.";
    PARKED_ABOUT: "A person is needed", "Hier muss ein Mensch entscheiden";
    NEXT_STEP: "Next step:", "Nächster Schritt:";
    RETRY: "Retry", "Wiederholen";
    APPROVE: "Approve", "Freigeben";
    NOTE: "Why, for the audit log (no names)", "Warum, für das Prüfprotokoll (keine Namen)";
    SKIP_EVENT: "Skip", "Überspringen";
    ACTS_MEAN: "Retry puts the event back to work, and newer events win. Approve also overrides the brake that parked it. Skip gives it up for good; it stays visible.",
        "Wiederholen gibt das Ereignis zurück in Arbeit; neuere Ereignisse gewinnen. Freigeben setzt sich auch über die Bremse hinweg, die es geparkt hat. Überspringen gibt es endgültig auf; es bleibt sichtbar.";
    CALLS_TO_PODERO: "Calls to Podero", "Aufrufe bei Podero";
    NO_CALLS: "No call was made for it.", "Dafür gab es keinen Aufruf.";
    CAME_BY: "Came by", "Kam über";
    ORIGIN: "Identity", "Identität";
    HAPPENED: "Happened", "Geschehen";
    ARRIVED: "Arrived", "Eingetroffen";
    SETTLED: "Ended", "Beendet";
    FAILURES: "Failures in a row", "Fehlschläge in Folge";
    RECEIVED: "As it was received", "Wie es empfangen wurde";
    RECEIVED_SHOW: "Show the bytes", "Die Bytes zeigen";
    ENVELOPE: "Headers", "Kopfzeilen";
    NOT_KEPT: "Its bytes are not kept.", "Die Bytes sind nicht aufbewahrt.";
    NOTE_UNFIT: "A note has at most {} characters, on one line.", "Eine Notiz hat höchstens {} Zeichen, in einer Zeile.";

    // Parked events.
    PARKED: "Parked", "Geparkt";
    BY_REASON: "By reason", "Nach Grund";
    COUNT: "Count", "Anzahl";
    OLDEST: "Oldest", "Ältestes";
    RETRY_GROUP: "Retry all …", "Alle wiederholen …";
    ALL_REASONS: "all reasons", "alle Gründe";
    ONE_BY_ONE: "One by one, oldest first", "Einzeln, das älteste zuerst";
    PARKED_SINCE: "Parked", "Geparkt";
    NOTHING_PARKED: "Nothing is parked.", "Nichts ist geparkt.";
    NOTHING_PARKED_NEXT: "There is nothing to do. An event that needs a person appears here, and goes out as event.parked.",
        "Es gibt nichts zu tun. Ein Ereignis, das einen Menschen braucht, erscheint hier und geht als event.parked hinaus.";
    RETRIES: "Retries of many", "Sammel-Wiederholungen";
    RETRY_RUNS: "A retry of many runs: see its progress.", "Eine Sammel-Wiederholung läuft: zum Fortschritt.";
    RETRY_OF: "Of", "Von";
    PROGRESS: "Progress", "Fortschritt";
    ENDED: "Ended", "Beendet";
    RETRY_MANY: "Retry of many", "Sammel-Wiederholung";
    RETRYABLE: "Of these can be retried", "Davon wiederholbar";
    THE_FIRST: "The first of them", "Die ersten davon";
    ORDER_RETRY: "Retry all of them", "Alle wiederholen";
    PER_SECOND: "Per second", "Pro Sekunde";
    APPROVE_ALL: "Approve them: override the brake", "Freigeben: die Bremse übergehen";
    RETRY_COUNT: "Retry {} events", "{} Ereignisse wiederholen";
    STOP: "Stop", "Anhalten";
    RETRY_BY_FILTER: "Retry many …", "Viele wiederholen …";
    PARKED_FROM: "Parked from", "Geparkt ab";
    PARKED_UNTIL: "Parked until", "Geparkt bis";
    ANY_TIME: "any time", "irgendwann";
    TODAY: "today", "heute";
    YESTERDAY: "yesterday", "gestern";
    LAST_7_DAYS: "last 7 days", "letzte 7 Tage";
    NOTHING_MATCHES: "No parked event matches the filter.", "Kein geparktes Ereignis passt zum Filter.";
    NOTHING_MATCHES_NEXT: "Widen the time, or choose another reason.", "Erweitern Sie die Zeit, oder wählen Sie einen anderen Grund.";
    ONLY_SKIPPED: "None of them can be retried: their bytes are not kept whole. Skip them one by one.",
        "Keines davon ist wiederholbar: ihre Bytes sind nicht vollständig aufbewahrt. Überspringen Sie sie einzeln.";

    // The audit log.
    AUDIT: "Audit log", "Prüfprotokoll";
    ANY: "any", "alle";
    FROM_ON: "From, in {}", "Ab, in {}";
    BEFORE: "Before, in {}", "Vor, in {}";
    FILTER: "Filter", "Filtern";
    CLEAR: "Clear", "Zurücksetzen";
    NO_ACTS: "No act matches the filter.", "Keine Aktion passt zum Filter.";
    NO_ACTS_NEXT: "Widen the time, or clear the filter.", "Erweitern Sie die Zeit, oder setzen Sie den Filter zurück.";
    NONE_ON_PAGE: "No act of this stretch of time matches; there may be more on the next page.",
        "In diesem Zeitabschnitt passt keine Aktion; auf der nächsten Seite kann es weitere geben.";
    EXPORT: "Export", "Export";
    EXPORT_ABOUT: "Sealed rows of this filter, in the order of the chain. The export itself is written down.",
        "Versiegelte Zeilen dieses Filters, in der Reihenfolge der Kette. Der Export selbst wird festgehalten.";

    // Settings.
    SETTINGS: "Settings", "Einstellungen";
    VERSION: "Version", "Version";
    YOU: "You", "Sie";
    SESSIONS: "Sessions", "Sitzungen";
    OPERATORS: "Operators", "Operatoren";
    OPERATOR: "Operator", "Operator";
    ROLE: "Role", "Rolle";
    LOGGED_IN: "Login", "Anmeldung";
    LAST_SEEN: "Last seen", "Zuletzt gesehen";
    ENDS: "Ends at the latest", "Endet spätestens";
    THIS_ONE: "this one", "diese";
    END_SESSION: "End", "Beenden";
    STORE: "Store", "Speicher";
    SCHEMA: "Schema", "Schema";
    CONFIGURATION: "Configuration of this replica", "Konfiguration dieses Replikats";
    KEY: "Key", "Schlüssel";
    VALUE: "Value", "Wert";
    VALUE_FROM: "From", "Aus";
    HIDDEN: "not shown", "nicht gezeigt";
    SETTINGS_FOR_ADMINS: "The configuration and the operators are for the role admin.",
        "Konfiguration und Operatoren sieht die Rolle admin.";
    ADDED: "Added", "Angelegt";
    CHANGED: "Changed", "Geändert";

    LOOKED_AT: "Looked at", "Stand:";
    BLIND: "The bridge cannot see how heat pumps are: Podero does not answer it.",
        "Die Bridge sieht nicht, wie es den Wärmepumpen geht: Podero antwortet ihr nicht.";
    NO_ALERTS: "No alert is open.", "Kein Alarm ist offen.";
    OUTAGES: "Outages", "Ausfälle";
    REPLICAS: "Replicas", "Replikate";

    // The charts of the last day.
    LAST_DAY: "The last 24 hours", "Die letzten 24 Stunden";
    NO_HISTORY: "Nothing is kept yet: the first numbers are here a minute after the start.",
        "Noch ist nichts aufgezeichnet: die ersten Zahlen stehen hier eine Minute nach dem Start.";
    EVENTS_RECEIVED: "Events received", "Eingegangene Ereignisse";
    EVENTS_SETTLED: "Events settled", "Erledigte Ereignisse";
    CALLS_REFUSED: "Calls refused by Podero", "Von Podero abgelehnte Aufrufe";
    OLDEST_SECONDS: "Oldest pending, seconds", "Ältestes offenes, Sekunden";
    MOST: "at most {}", "höchstens {}";
    CHART_ABOUT: "In ten minutes at most {}, at last {}. The table below has the numbers.",
        "In zehn Minuten höchstens {}, zuletzt {}. Die Tabelle darunter nennt die Zahlen.";
    A_DAY_AGO: "24 h ago", "vor 24 Std.";
    NOW: "now", "jetzt";
    NUMBERS: "The numbers, hour by hour", "Die Zahlen, Stunde für Stunde";
    HOUR_FROM: "Hour from", "Stunde ab";

    // Lists.
    FILTER_OFF: "Remove the filter", "Filter entfernen";
    FIRST_PAGE: "First page", "Erste Seite";

    // The fleet.
    FLEET: "Fleet", "Flotte";
    MANUFACTURER: "Manufacturer", "Hersteller";
    REGION: "Region", "Region";
    MODEL: "Model", "Modell";
    ONLY_ALERTS: "only with an open alert", "nur mit offenem Alarm";
    OPEN_OUTAGES: "Open outages", "Offene Ausfälle";
    SCOPE: "Of", "Von";
    CAUSE: "Cause", "Ursache";
    AFFECTED: "Affected", "Betroffen";
    OF_WATCHED: "{} of {}", "{} von {}";
    NO_PUMPS: "No heat pump is like this", "Keine Wärmepumpe passt dazu";
    NO_PUMPS_HINT: "Remove the filter, or see in the overview whether heat pumps are watched.",
        "Entfernen Sie den Filter, oder sehen Sie in der Übersicht nach, ob Wärmepumpen beobachtet werden.";
    GROUPS_CUT: "There are more manufacturers or regions than are listed here.",
        "Es gibt mehr Hersteller oder Regionen, als hier stehen.";

    // Support.
    SUPPORT: "Support", "Support";
    SUPPORT_SEARCH: "Id of a heat pump or of a customer", "Kennung einer Wärmepumpe oder eines Kunden";
    SUPPORT_ABOUT: "Find a heat pump, make a link for its owner, and watch it come back.",
        "Wärmepumpe suchen, Link für den Besitzer erzeugen und zusehen, wie sie wiederkommt.";
    SEARCH: "Search", "Suchen";
    NOTHING_FOUND: "Nothing was found", "Nichts gefunden";
    NOTHING_FOUND_HINT: "Ids are compared exactly. A customer's heat pumps are here once the watch has seen them.",
        "Kennungen werden genau verglichen. Wärmepumpen eines Kunden stehen hier, sobald die Überwachung sie gesehen hat.";
    KNOWN: "What is known, and since when", "Was bekannt ist, und seit wann";
    CONNECTED_SINCE: "Connected since", "Verbunden seit";
    DISCONNECTED_SINCE: "Disconnected since", "Getrennt seit";
    LOST_AT: "Lost", "Verloren";
    BUILDING: "Building at Podero", "Gebäude bei Podero";
    PODERO_USER: "User at Podero", "Nutzer bei Podero";
    OUTAGE: "Part of the outage", "Teil des Ausfalls";
    FIRST_SEEN: "Seen first", "Zuerst gesehen";
    WATCHED_SINCE: "Watched without a break since", "Lückenlos beobachtet seit";
    LOSSES: "Recent losses", "Letzte Verluste";
    MAKE_LINK: "Make a link", "Link erzeugen";
    MAKE_LINK_ABOUT: "Under it the owner connects this heat pump again. It is shown once, and not stored.",
        "Darüber verbindet der Besitzer diese Wärmepumpe wieder. Er wird einmal gezeigt und nicht gespeichert.";
    LINK_LANGUAGE: "Language of the page", "Sprache der Seite";
    AS_CONFIGURED: "as configured", "wie eingestellt";
    LANDING: "Where the customer lands", "Wo der Kunde landet";
    LANDING_DONE: "After success (https://…)", "Nach Erfolg (https://…)";
    LANDING_NOT: "After a cancellation (https://…)", "Nach einem Abbruch (https://…)";
    LINK_MADE: "The link", "Der Link";
    LINK_FOR: "Send it to the owner of this heat pump, and to no one else. It is not shown again.",
        "Senden Sie ihn dem Besitzer dieser Wärmepumpe und niemandem sonst. Er wird nicht noch einmal gezeigt.";
    LINK_EXPIRES: "It expires:", "Er läuft ab:";
    NOT_WATCHED: "It is not polled more often than usual: as many heat pumps are as may be, or none is watched.",
        "Sie wird nicht häufiger abgefragt als sonst: es sind schon so viele wie erlaubt, oder es wird keine beobachtet.";
    WATCHED_UNTIL: "A link was made. The heat pump is looked at every 5 seconds until", "Ein Link wurde erzeugt. Die Wärmepumpe wird alle 5 Sekunden geprüft bis";
    LINK_MADE_AT: "Link made:", "Link erzeugt:";
    BACK_SINCE: "It is connected again. Seen", "Sie ist wieder verbunden. Gesehen";
    NOT_BACK: "It did not come back within 15 minutes after the link was made.",
        "Sie kam innerhalb von 15 Minuten nach dem Link nicht wieder.";
    ALERTS: "Alerts", "Alarme";
    NO_PAST_ALERTS: "No alert is kept.", "Kein Alarm ist aufbewahrt.";
    DETECTED: "Alert at", "Alarm um";
    RESOLVED: "Resolved", "Beendet";
    OPEN: "open", "offen";

    // The team.
    TEAM: "Team", "Team";
    MEMBERS: "Members", "Mitglieder";
    MEMBER: "Member", "Mitglied";
    ORIGIN_OF_MEMBER: "Origin", "Herkunft";
    LAST_LOGIN: "Last login", "Letzte Anmeldung";
    EXPIRES: "Expires", "Läuft ab";
    REVIEW: "Review", "Überprüfung";
    FINDING: "Finding", "Befund";
    DETAIL: "Detail", "Einzelheit";
    NO_FINDINGS: "Nothing was found.", "Keine Befunde.";
    NOT_COMPARED: "Nothing was compared with Podero.", "Mit Podero wurde nichts verglichen.";
    INACTIVE_AFTER: "Inactive is who has not logged in for {} days.", "Inaktiv ist, wer {} Tage nicht angemeldet war.";
    STAFF_LISTED: "Podero's list of the staff is of", "Die Liste des Personals bei Podero ist von";
    STAFF_NOT_LISTED: "There is no list of Podero's staff: the bridge reads one while team.enabled is on.",
        "Es gibt keine Liste des Personals bei Podero: die Bridge liest eine, solange team.enabled an ist.";
    TEAM_CUT: "The store has more members than are looked at.", "Der Speicher hat mehr Mitglieder, als betrachtet werden.";
    NO_MEMBERS: "No members yet", "Noch keine Mitglieder";
    NO_MEMBERS_HINT: "They come by team.* events or by SCIM, or are found at Podero.",
        "Sie kommen durch team.*-Ereignisse oder SCIM, oder werden bei Podero gefunden.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_says_the_same_in_each_language() {
        for (name, text) in ALL {
            for language in PageLanguage::ALL {
                assert!(!text.of(language).trim().is_empty(), "{name} in {language}");
            }
            let places = |language: PageLanguage| text.of(language).matches("{}").count();
            assert_eq!(places(PageLanguage::English), places(PageLanguage::German), "{name} has as many places");
        }
    }

    #[test]
    fn places_are_filled_in_their_order_and_not_twice() {
        let text = Text { en: "{} of {}", de: "{} von {}" };
        assert_eq!(text.filled(PageLanguage::German, &["{}", "b"]), "{} von b");
    }
}
