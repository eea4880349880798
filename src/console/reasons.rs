//! The reasons of parking for the one who has to act: the meaning, and what to do next. docs/OPERATIONS.md says more.
//!
//! Before: the pages about parked events. After: nothing.

use super::words::Text;
use crate::domain::verdict::Reason;

/// A reason in a person's words.
#[derive(Clone, Copy)]
pub(super) struct Explanation {
    /// The cause.
    pub(super) means: Text,
    /// The next step.
    pub(super) advice: Text,
}

const fn explained(means: (&'static str, &'static str), advice: (&'static str, &'static str)) -> Explanation {
    Explanation { means: Text::new(means.0, means.1), advice: Text::new(advice.0, advice.1) }
}

const OF_THE_TEAM: (&str, &str) = (
    "Find out whether it is meant. If it is, change the policy [team] and retry; if not, skip it.",
    "Klären, ob es gewollt ist. Wenn ja, die Regeln in [team] ändern und wiederholen; sonst überspringen.",
);

const EMAIL_TAKEN: Explanation = explained(
    (
        "The e-mail address belongs to a user at Podero who is not this customer.",
        "Die E-Mail-Adresse gehört einem Nutzer bei Podero, der nicht dieser Kunde ist.",
    ),
    (
        "Find its owner: skip a double sign-up, have a wrong address corrected by a new event, or link the user at Podero and retry.",
        "Den Inhaber finden: eine doppelte Anmeldung überspringen, eine falsche Adresse durch ein neues Ereignis berichtigen lassen, oder den Nutzer bei Podero verknüpfen und wiederholen.",
    ),
);

const NOT_A_CUSTOMER: Explanation = explained(
    (
        "Podero's user with this id is staff, an admin or a guest.",
        "Der Nutzer mit dieser Kennung ist bei Podero Mitarbeiter, Administrator oder Gast.",
    ),
    (
        "The id is used twice: give one side another id, then retry or skip.",
        "Die Kennung ist doppelt vergeben: einer Seite eine andere geben, dann wiederholen oder überspringen.",
    ),
);

const REFUSED: Explanation = explained(
    (
        "Podero refuses it; the detail names the operation, the status and the fields.",
        "Podero lehnt es ab; das Detail nennt Vorgang, Status und Felder.",
    ),
    (
        "Have the data corrected by a new event, or correct the account at Podero; then retry, or skip if the new event has done it.",
        "Die Daten durch ein neues Ereignis oder das Konto bei Podero berichtigen; dann wiederholen, oder überspringen, wenn das neue Ereignis es erledigt hat.",
    ),
);

const BUILDING_IN_DOUBT: Explanation = explained(
    (
        "A building may have been made unseen, and Podero does not list buildings.",
        "Ein Gebäude wurde vielleicht ungesehen angelegt, und Podero listet keine Gebäude auf.",
    ),
    (
        "Look at Podero, delete the building if it exists, then retry.",
        "Bei Podero nachsehen, das Gebäude löschen, falls es da ist, dann wiederholen.",
    ),
);

const NO_SIGN_UP: Explanation = explained(
    (
        "A move or an update, and no sign-up of this customer came in time.",
        "Ein Umzug oder eine Änderung, und keine Anmeldung dieses Kunden kam rechtzeitig.",
    ),
    (
        "Have the sign-up sent, then retry; or skip.",
        "Die Anmeldung senden lassen, dann wiederholen; oder überspringen.",
    ),
);

const GAVE_UP: Explanation = explained(
    (
        "It failed for longer than retry.give_up_after; the detail has the last failure.",
        "Es schlug länger als retry.give_up_after fehl; das Detail nennt den letzten Fehler.",
    ),
    ("Once the cause is gone, retry.", "Sobald die Ursache behoben ist, wiederholen."),
);

const CHURN_BRAKE: Explanation = explained(
    (
        "More customers would leave within churn.brake_window than may without an approval.",
        "Innerhalb von churn.brake_window würden mehr Kunden gehen, als ohne Freigabe dürfen.",
    ),
    (
        "Find out whether they left. If so, approve; if not, skip. A retry without an approval meets the brake again.",
        "Klären, ob sie gegangen sind. Wenn ja, freigeben; sonst überspringen. Ohne Freigabe greift die Bremse wieder.",
    ),
);

const TEAM_DISABLED: Explanation = explained(
    ("An event about the team, and team.enabled is off.", "Ein Ereignis über das Team, und team.enabled ist aus."),
    OF_THE_TEAM,
);

const MEMBER_ID_IS_ADDRESS: Explanation = explained(
    (
        "The id of the member is an e-mail address, which names another person one day.",
        "Die Kennung des Mitglieds ist eine E-Mail-Adresse, die eines Tages jemand anderem gehört.",
    ),
    (
        "Have it sent again with an id that is no address; skip this one.",
        "Mit einer Kennung, die keine Adresse ist, neu senden lassen; dieses überspringen.",
    ),
);

const EXPIRES_BEFORE_EVENT: Explanation = explained(
    ("The access would end before the event that gives it.", "Der Zugang würde enden, bevor das Ereignis ihn gibt."),
    (
        "Have it sent again with a later end; skip this one.",
        "Mit einem späteren Ende neu senden lassen; dieses überspringen.",
    ),
);

const FOREIGN_EMAIL_DOMAIN: Explanation = explained(
    (
        "The domain of the e-mail address is not in team.email_domains.",
        "Die Domain der E-Mail-Adresse steht nicht in team.email_domains.",
    ),
    OF_THE_TEAM,
);

const GUEST_ACCESS: Explanation = explained(
    (
        "A guest must be staff, with an end of the access within team.guest_access_max.",
        "Ein Gast muss Mitarbeiter sein, mit einem Ende des Zugangs innerhalb von team.guest_access_max.",
    ),
    OF_THE_TEAM,
);

const PROTECTED_MEMBER: Explanation =
    explained(("team.protected names the member.", "team.protected nennt das Mitglied."), OF_THE_TEAM);

const ADMIN_NOT_ALLOWED: Explanation = explained(
    (
        "Events may not make admins: team.allow_admins is off.",
        "Ereignisse dürfen niemanden zum Administrator machen: team.allow_admins ist aus.",
    ),
    OF_THE_TEAM,
);

const TOO_FEW_ADMINS: Explanation = explained(
    (
        "Fewer than team.min_admins active admins would be left, now or when an access ends.",
        "Es blieben weniger als team.min_admins aktive Administratoren, jetzt oder wenn ein Zugang endet.",
    ),
    OF_THE_TEAM,
);

const TEAM_BRAKE: Explanation = explained(
    (
        "More members would be removed or demoted within team.removals_window than may without an approval.",
        "Innerhalb von team.removals_window würden mehr Mitglieder entfernt oder herabgestuft, als ohne Freigabe dürfen.",
    ),
    (
        "Find out whether it is meant. If so, approve; if not, skip.",
        "Klären, ob es gewollt ist. Wenn ja, freigeben; sonst überspringen.",
    ),
);

const NOT_A_TEAM_MEMBER: Explanation = explained(
    ("Podero's user of this member is a customer.", "Der Nutzer dieses Mitglieds ist bei Podero ein Kunde."),
    (
        "The address or the id is used twice: give one side another, then retry or skip.",
        "Adresse oder Kennung ist doppelt vergeben: einer Seite eine andere geben, dann wiederholen oder überspringen.",
    ),
);

const MEMBER_MISSING: Explanation = explained(
    (
        "Podero has no user of a member who should have one; only a join invites.",
        "Podero hat keinen Nutzer zu einem Mitglied, das einen haben sollte; nur ein Eintritt lädt ein.",
    ),
    ("Have a join sent; skip this one.", "Einen Eintritt senden lassen; dieses überspringen."),
);

const NO_JOIN: Explanation = explained(
    (
        "A change of a member, and no join came in time.",
        "Eine Änderung eines Mitglieds, und kein Eintritt kam rechtzeitig.",
    ),
    ("Have the join sent, then retry; or skip.", "Den Eintritt senden lassen, dann wiederholen; oder überspringen."),
);

const UNTRANSLATABLE: Explanation = explained(
    (
        "The bridge does not understand it as an event; the detail has every error with its place.",
        "Die Bridge versteht es nicht als Ereignis; das Detail nennt jeden Fehler mit seiner Stelle.",
    ),
    (
        "The mapping's fault: mend it and retry. The sender's: have it sent again under a new id, and skip this one.",
        "Fehler der Abbildung: beheben und wiederholen. Fehler des Senders: unter neuer Kennung neu senden lassen, dieses überspringen.",
    ),
);

const TOO_LARGE: Explanation = explained(
    (
        "More bytes, events or values than the bridge takes at once.",
        "Mehr Bytes, Ereignisse oder Werte, als die Bridge auf einmal nimmt.",
    ),
    (
        "Have it sent in smaller parts and skip this one; or raise the bound and retry.",
        "In kleineren Teilen senden lassen und dieses überspringen; oder die Grenze anheben und wiederholen.",
    ),
);

const EVENT_ID_REUSED: Explanation = explained(
    ("Its source and id are known with another content.", "Quelle und Kennung sind mit anderem Inhalt bekannt."),
    (
        "The sender gives ids twice: have it sent again with a new id; skip this one.",
        "Der Sender vergibt Kennungen doppelt: mit neuer Kennung neu senden lassen; dieses überspringen.",
    ),
);

const MAPPING_FAILED: Explanation = explained(
    (
        "The mapping of its source did not end for it, or took too much.",
        "Die Abbildung seiner Quelle kam damit zu keinem Ende oder brauchte zu viel.",
    ),
    ("Mend the program of the source, then retry.", "Das Programm der Quelle berichtigen, dann wiederholen."),
);

const TYPE_NOT_ALLOWED: Explanation = explained(
    ("Its source may not send events of this type.", "Seine Quelle darf Ereignisse dieses Typs nicht senden."),
    (
        "If it may, add the type to source.types, restart and retry. If not, find the sender and skip.",
        "Wenn doch, den Typ in source.types aufnehmen, neu starten und wiederholen. Sonst den Sender finden und überspringen.",
    ),
);

const PANICKED: Explanation = explained(
    (
        "The bridge itself failed on it; its log says where.",
        "Die Bridge selbst ist daran gescheitert; ihr Protokoll sagt, wo.",
    ),
    (
        "Report it with the lines of the log; retry after an upgrade.",
        "Mit den Zeilen des Protokolls melden; nach einer neuen Version wiederholen.",
    ),
);

const UNREADABLE: Explanation = explained(
    ("This version cannot read its stored form.", "Diese Version kann die gespeicherte Form nicht lesen."),
    ("Run the version that wrote it, then retry.", "Die Version starten, die es geschrieben hat, dann wiederholen."),
);

/// The explanation of a reason.
pub(super) const fn explanation(reason: Reason) -> Explanation {
    match reason {
        Reason::EmailTaken => EMAIL_TAKEN,
        Reason::NotACustomer => NOT_A_CUSTOMER,
        Reason::Refused => REFUSED,
        Reason::BuildingInDoubt => BUILDING_IN_DOUBT,
        Reason::NoSignUp => NO_SIGN_UP,
        Reason::GaveUp => GAVE_UP,
        Reason::ChurnBrake => CHURN_BRAKE,
        Reason::TeamDisabled => TEAM_DISABLED,
        Reason::MemberIdIsAddress => MEMBER_ID_IS_ADDRESS,
        Reason::ExpiresBeforeEvent => EXPIRES_BEFORE_EVENT,
        Reason::ForeignEmailDomain => FOREIGN_EMAIL_DOMAIN,
        Reason::GuestAccess => GUEST_ACCESS,
        Reason::ProtectedMember => PROTECTED_MEMBER,
        Reason::AdminNotAllowed => ADMIN_NOT_ALLOWED,
        Reason::TooFewAdmins => TOO_FEW_ADMINS,
        Reason::TeamBrake => TEAM_BRAKE,
        Reason::NotATeamMember => NOT_A_TEAM_MEMBER,
        Reason::MemberMissing => MEMBER_MISSING,
        Reason::NoJoin => NO_JOIN,
        Reason::Untranslatable => UNTRANSLATABLE,
        Reason::TooLarge => TOO_LARGE,
        Reason::EventIdReused => EVENT_ID_REUSED,
        Reason::MappingFailed => MAPPING_FAILED,
        Reason::TypeNotAllowed => TYPE_NOT_ALLOWED,
        Reason::Panicked => PANICKED,
        Reason::Unreadable => UNREADABLE,
    }
}
