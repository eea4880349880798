//! The texts of the owner's pages, in one table: a row for each text, in English and in the other languages of the partner's pages.
//!
//! They are read by customers: short sentences, no word of ours, no name. A text that a language lacks is English.
//!
//! Before: [`super::language`]. After: [`crate::reconnect`] makes the page.

/// The language of a text that another language lacks.
pub const FALLBACK_LANGUAGE: &str = "en";

/// Declares the texts: each in English, and in other languages by their codes.
macro_rules! texts {
    ($($(#[doc = $help:literal])+ $text:ident { en: $english:literal $(, $code:ident: $other:literal)* $(,)? })+) => {
        /// A text of the owner's pages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum PageText { $($(#[doc = $help])+ $text,)+ }

        impl PageText {
            /// Every text.
            pub const ALL: &[Self] = &[$(Self::$text),+];

            /// The text in this language, by its code; in English where there is none.
            pub fn say(self, language: &str) -> &'static str {
                let (english, others): (&str, &[(&str, &str)]) = match self {
                    $(Self::$text => ($english, &[$((stringify!($code), $other)),*]),)+
                };
                others.iter().find(|(code, _)| *code == language).map_or(english, |(_, text)| *text)
            }

            /// True if the text is written in this language.
            pub fn is_in(self, language: &str) -> bool {
                language == FALLBACK_LANGUAGE || match self {
                    $(Self::$text => [$(stringify!($code)),*].contains(&language),)+
                }
            }
        }
    };
}

texts! {
    /// Title of the page with the button.
    OfferTitle {
        en: "Connect your heat pump again",
        de: "Verbinden Sie Ihre Wärmepumpe wieder",
        et: "Ühendage oma soojuspump uuesti",
        hu: "Csatlakoztassa újra a hőszivattyúját",
        it: "Ricolleghi la Sua pompa di calore",
        pl: "Połącz ponownie swoją pompę ciepła",
        ro: "Reconectați pompa de căldură",
        sv: "Anslut din värmepump igen",
    }
    /// Why there is something to do.
    OfferReason {
        en: "The connection to your heat pump has been lost. Until it is back, your heat pump runs on its own settings.",
        de: "Die Verbindung zu Ihrer Wärmepumpe ist abgebrochen. Bis sie wieder besteht, läuft Ihre Wärmepumpe mit ihren eigenen Einstellungen.",
        et: "Ühendus teie soojuspumbaga on katkenud. Kuni selle taastumiseni töötab soojuspump oma seadete järgi.",
        hu: "Megszakadt a kapcsolat a hőszivattyújával. Amíg helyre nem áll, a hőszivattyú a saját beállításaival működik.",
        it: "Il collegamento con la Sua pompa di calore si è interrotto. Finché non è ripristinato, la pompa di calore funziona con le proprie impostazioni.",
        pl: "Połączenie z Twoją pompą ciepła zostało przerwane. Do czasu jego przywrócenia pompa działa według własnych ustawień.",
        ro: "Conexiunea cu pompa dumneavoastră de căldură s-a întrerupt. Până la restabilirea ei, pompa funcționează cu propriile setări.",
        sv: "Anslutningen till din värmepump har brutits. Tills den är tillbaka går värmepumpen med sina egna inställningar.",
    }
    /// The course of the reconnection.
    OfferSteps {
        en: "The button takes you to the page of our partner Podero. There you log in again at the manufacturer of your heat pump. It takes a few minutes, and brings you back here.",
        de: "Die Schaltfläche führt Sie zur Seite unseres Partners Podero. Dort melden Sie sich wieder beim Hersteller Ihrer Wärmepumpe an. Das dauert wenige Minuten und führt Sie hierher zurück.",
        et: "Nupp viib teid meie partneri Podero lehele. Seal logite uuesti sisse oma soojuspumba tootja juures. See võtab mõne minuti ja toob teid siia tagasi.",
        hu: "A gomb partnerünk, a Podero oldalára vezeti. Ott újra bejelentkezik a hőszivattyúja gyártójánál. Ez néhány percig tart, utána ide tér vissza.",
        it: "Il pulsante La porta alla pagina del nostro partner Podero. Lì accede di nuovo presso il produttore della Sua pompa di calore. Bastano pochi minuti, poi torna qui.",
        pl: "Przycisk prowadzi na stronę naszego partnera Podero. Tam zalogujesz się ponownie u producenta swojej pompy ciepła. Zajmie to kilka minut, a potem wrócisz tutaj.",
        ro: "Butonul vă duce la pagina partenerului nostru Podero. Acolo vă autentificați din nou la producătorul pompei de căldură. Durează câteva minute și apoi reveniți aici.",
        sv: "Knappen leder till vår partner Poderos sida. Där loggar du in igen hos tillverkaren av din värmepump. Det tar några minuter och sedan kommer du tillbaka hit.",
    }
    /// Nothing has happened so far.
    OfferPromise {
        en: "Nothing happens before you press the button.",
        de: "Bevor Sie die Schaltfläche drücken, geschieht nichts.",
        et: "Enne nupu vajutamist ei juhtu midagi.",
        hu: "Amíg meg nem nyomja a gombot, nem történik semmi.",
        it: "Prima che Lei prema il pulsante non succede nulla.",
        pl: "Dopóki nie naciśniesz przycisku, nic się nie stanie.",
        ro: "Nu se întâmplă nimic înainte să apăsați butonul.",
        sv: "Ingenting händer innan du trycker på knappen.",
    }
    /// The button.
    Button {
        en: "Connect again",
        de: "Wieder verbinden",
        et: "Ühenda uuesti",
        hu: "Újracsatlakoztatás",
        it: "Ricollega",
        pl: "Połącz ponownie",
        ro: "Reconectează",
        sv: "Anslut igen",
    }
    /// Title where the heat pump is connected already.
    ConnectedTitle {
        en: "Your heat pump is connected",
        de: "Ihre Wärmepumpe ist verbunden",
        et: "Teie soojuspump on ühendatud",
        hu: "A hőszivattyúja csatlakoztatva van",
        it: "La Sua pompa di calore è collegata",
        pl: "Twoja pompa ciepła jest połączona",
        ro: "Pompa dumneavoastră de căldură este conectată",
        sv: "Din värmepump är ansluten",
    }
    /// There is nothing to do.
    ConnectedBody {
        en: "There is nothing to do. You can close this page.",
        de: "Es gibt nichts zu tun. Sie können diese Seite schließen.",
        et: "Midagi pole vaja teha. Võite selle lehe sulgeda.",
        hu: "Nincs teendője. Bezárhatja ezt az oldalt.",
        it: "Non c'è nulla da fare. Può chiudere questa pagina.",
        pl: "Nie musisz nic robić. Możesz zamknąć tę stronę.",
        ro: "Nu este nimic de făcut. Puteți închide această pagină.",
        sv: "Du behöver inte göra något. Du kan stänga sidan.",
    }
    /// Title of a link whose time is over.
    ExpiredTitle {
        en: "This link has expired",
        de: "Dieser Link ist abgelaufen",
        et: "See link on aegunud",
        hu: "Ez a link lejárt",
        it: "Questo link è scaduto",
        pl: "Ten link wygasł",
        ro: "Acest link a expirat",
        sv: "Den här länken har gått ut",
    }
    /// Where to get another one.
    ExpiredBody {
        en: "If your heat pump is still not connected, ask us for a new link.",
        de: "Wenn Ihre Wärmepumpe noch nicht verbunden ist, bitten Sie uns um einen neuen Link.",
        et: "Kui teie soojuspump pole ikka veel ühendatud, küsige meilt uut linki.",
        hu: "Ha a hőszivattyúja még mindig nincs csatlakoztatva, kérjen tőlünk új linket.",
        it: "Se la Sua pompa di calore non è ancora collegata, ci chieda un nuovo link.",
        pl: "Jeśli Twoja pompa ciepła nadal nie jest połączona, poproś nas o nowy link.",
        ro: "Dacă pompa de căldură încă nu este conectată, cereți-ne un link nou.",
        sv: "Om din värmepump fortfarande inte är ansluten kan du be oss om en ny länk.",
    }
    /// Title of a link that is none, or is over.
    InvalidTitle {
        en: "This link does not work",
        de: "Dieser Link funktioniert nicht",
        et: "See link ei tööta",
        hu: "Ez a link nem működik",
        it: "Questo link non funziona",
        pl: "Ten link nie działa",
        ro: "Acest link nu funcționează",
        sv: "Den här länken fungerar inte",
    }
    /// The next thing to try.
    InvalidBody {
        en: "Open the link in our message again and make sure that it is complete. If that does not help, contact us.",
        de: "Öffnen Sie den Link in unserer Nachricht noch einmal und achten Sie darauf, dass er vollständig ist. Hilft das nicht, wenden Sie sich an uns.",
        et: "Avage meie sõnumis olev link uuesti ja veenduge, et see on terviklik. Kui see ei aita, võtke meiega ühendust.",
        hu: "Nyissa meg újra az üzenetünkben lévő linket, és ügyeljen arra, hogy teljes legyen. Ha ez nem segít, forduljon hozzánk.",
        it: "Apra di nuovo il link nel nostro messaggio e controlli che sia completo. Se non basta, ci contatti.",
        pl: "Otwórz ponownie link z naszej wiadomości i sprawdź, czy jest kompletny. Jeśli to nie pomoże, skontaktuj się z nami.",
        ro: "Deschideți din nou linkul din mesajul nostru și verificați că este complet. Dacă nu ajută, contactați-ne.",
        sv: "Öppna länken i vårt meddelande igen och kontrollera att den är hel. Kontakta oss om det inte hjälper.",
    }
    /// Title where the partner or the bridge's store is away.
    AwayTitle {
        en: "This does not work at the moment",
        de: "Das geht im Moment nicht",
        et: "See ei õnnestu praegu",
        hu: "Ez most nem működik",
        it: "In questo momento non è possibile",
        pl: "W tej chwili to nie działa",
        ro: "Momentan nu funcționează",
        sv: "Det går inte just nu",
    }
    /// When to try again.
    AwayBody {
        en: "Nothing was changed. Please try again in a few minutes.",
        de: "Es wurde nichts geändert. Bitte versuchen Sie es in einigen Minuten noch einmal.",
        et: "Midagi ei muudetud. Palun proovige mõne minuti pärast uuesti.",
        hu: "Semmi sem változott. Kérjük, próbálja újra néhány perc múlva.",
        it: "Non è stato modificato nulla. Riprovi tra qualche minuto.",
        pl: "Nic nie zostało zmienione. Spróbuj ponownie za kilka minut.",
        ro: "Nu s-a modificat nimic. Încercați din nou peste câteva minute.",
        sv: "Ingenting har ändrats. Försök igen om några minuter.",
    }
    /// Title at a limit.
    LimitedTitle {
        en: "Too many tries",
        de: "Zu viele Versuche",
        et: "Liiga palju katseid",
        hu: "Túl sok próbálkozás",
        it: "Troppi tentativi",
        pl: "Zbyt wiele prób",
        ro: "Prea multe încercări",
        sv: "För många försök",
    }
    /// When to try again.
    LimitedBody {
        en: "Please wait a quarter of an hour, then open the link in our message again.",
        de: "Bitte warten Sie eine Viertelstunde und öffnen Sie dann den Link in unserer Nachricht noch einmal.",
        et: "Palun oodake veerand tundi ja avage siis meie sõnumis olev link uuesti.",
        hu: "Kérjük, várjon negyed órát, majd nyissa meg újra az üzenetünkben lévő linket.",
        it: "Attenda un quarto d'ora, poi apra di nuovo il link nel nostro messaggio.",
        pl: "Odczekaj kwadrans, a potem otwórz ponownie link z naszej wiadomości.",
        ro: "Așteptați un sfert de oră, apoi deschideți din nou linkul din mesajul nostru.",
        sv: "Vänta en kvart och öppna sedan länken i vårt meddelande igen.",
    }
    /// Title where the partner asks nothing of the owner.
    NotNeededTitle {
        en: "No new login is needed",
        de: "Eine neue Anmeldung ist nicht nötig",
        et: "Uus sisselogimine pole vajalik",
        hu: "Nincs szükség új bejelentkezésre",
        it: "Non serve un nuovo accesso",
        pl: "Ponowne logowanie nie jest potrzebne",
        ro: "Nu este nevoie de o nouă autentificare",
        sv: "Ingen ny inloggning behövs",
    }
    /// The advice if it is not connected all the same.
    NotNeededBody {
        en: "Our partner does not ask for a login for your heat pump. It may be connected again already. If it is not, check that it has power and internet, or contact us.",
        de: "Unser Partner verlangt für Ihre Wärmepumpe keine Anmeldung. Vielleicht ist sie schon wieder verbunden. Wenn nicht, prüfen Sie, ob sie Strom und Internet hat, oder wenden Sie sich an uns.",
        et: "Meie partner ei nõua teie soojuspumba jaoks sisselogimist. Võib-olla on see juba uuesti ühendatud. Kui ei, kontrollige, kas sellel on vool ja internet, või võtke meiega ühendust.",
        hu: "Partnerünk nem kér bejelentkezést a hőszivattyújához. Lehet, hogy már újra csatlakozik. Ha nem, ellenőrizze, hogy van-e áram és internet, vagy forduljon hozzánk.",
        it: "Il nostro partner non richiede un accesso per la Sua pompa di calore. Forse è già di nuovo collegata. Altrimenti controlli che abbia corrente e Internet, oppure ci contatti.",
        pl: "Nasz partner nie wymaga logowania dla Twojej pompy ciepła. Być może jest już znów połączona. Jeśli nie, sprawdź, czy ma prąd i internet, albo skontaktuj się z nami.",
        ro: "Partenerul nostru nu cere autentificare pentru pompa dumneavoastră de căldură. Poate este deja reconectată. Dacă nu, verificați că are curent și internet sau contactați-ne.",
        sv: "Vår partner begär ingen inloggning för din värmepump. Den kanske redan är ansluten igen. Kontrollera annars att den har ström och internet, eller kontakta oss.",
    }
    /// Title after the login, while the heat pump is looked for.
    WaitingTitle {
        en: "Almost done",
        de: "Fast geschafft",
        et: "Peaaegu valmis",
        hu: "Mindjárt kész",
        it: "Ci siamo quasi",
        pl: "Prawie gotowe",
        ro: "Aproape gata",
        sv: "Nästan klart",
    }
    /// The page looks again by itself.
    WaitingBody {
        en: "Thank you. We are looking whether your heat pump is back. This page looks again every ten seconds.",
        de: "Vielen Dank. Wir sehen nach, ob Ihre Wärmepumpe wieder da ist. Diese Seite sieht alle zehn Sekunden noch einmal nach.",
        et: "Aitäh. Vaatame, kas teie soojuspump on tagasi. See leht vaatab iga kümne sekundi järel uuesti.",
        hu: "Köszönjük. Megnézzük, hogy a hőszivattyúja újra elérhető-e. Ez az oldal tíz másodpercenként újra ellenőrzi.",
        it: "Grazie. Stiamo verificando se la Sua pompa di calore è tornata. Questa pagina ricontrolla ogni dieci secondi.",
        pl: "Dziękujemy. Sprawdzamy, czy Twoja pompa ciepła wróciła. Ta strona sprawdza to ponownie co dziesięć sekund.",
        ro: "Vă mulțumim. Verificăm dacă pompa dumneavoastră de căldură a revenit. Această pagină verifică din nou la fiecare zece secunde.",
        sv: "Tack. Vi ser efter om din värmepump är tillbaka. Sidan ser efter igen var tionde sekund.",
    }
    /// The link that looks again.
    LookAgain {
        en: "Look again now",
        de: "Jetzt noch einmal nachsehen",
        et: "Vaata kohe uuesti",
        hu: "Ellenőrzés most",
        it: "Controlla ora",
        pl: "Sprawdź teraz",
        ro: "Verifică acum",
        sv: "Se efter nu",
    }
    /// Title when it worked.
    ArrivedTitle {
        en: "It worked: your heat pump is connected again",
        de: "Es hat geklappt: Ihre Wärmepumpe ist wieder verbunden",
        et: "Õnnestus: teie soojuspump on uuesti ühendatud",
        hu: "Sikerült: a hőszivattyúja újra csatlakozik",
        it: "Fatto: la Sua pompa di calore è di nuovo collegata",
        pl: "Udało się: Twoja pompa ciepła jest znów połączona",
        ro: "A reușit: pompa dumneavoastră de căldură este din nou conectată",
        sv: "Det fungerade: din värmepump är ansluten igen",
    }
    /// There is nothing more to do.
    ArrivedBody {
        en: "Thank you. There is nothing more to do. You can close this page.",
        de: "Vielen Dank. Sie müssen nichts weiter tun. Sie können diese Seite schließen.",
        et: "Aitäh. Rohkem pole midagi vaja teha. Võite selle lehe sulgeda.",
        hu: "Köszönjük. Nincs további teendője. Bezárhatja ezt az oldalt.",
        it: "Grazie. Non c'è altro da fare. Può chiudere questa pagina.",
        pl: "Dziękujemy. Nie musisz robić nic więcej. Możesz zamknąć tę stronę.",
        ro: "Vă mulțumim. Nu mai este nimic de făcut. Puteți închide această pagină.",
        sv: "Tack. Du behöver inte göra något mer. Du kan stänga sidan.",
    }
    /// Title when no look has seen it.
    LateTitle {
        en: "We do not see your heat pump yet",
        de: "Wir sehen Ihre Wärmepumpe noch nicht",
        et: "Me ei näe veel teie soojuspumpa",
        hu: "Még nem látjuk a hőszivattyúját",
        it: "Non vediamo ancora la Sua pompa di calore",
        pl: "Nie widzimy jeszcze Twojej pompy ciepła",
        ro: "Încă nu vedem pompa dumneavoastră de căldură",
        sv: "Vi ser inte din värmepump ännu",
    }
    /// The advice.
    LateBody {
        en: "That can take a while. Check that it has power and internet. If it stays so, open the link in our message again, or contact us.",
        de: "Das kann eine Weile dauern. Prüfen Sie, ob sie Strom und Internet hat. Bleibt es so, öffnen Sie den Link in unserer Nachricht noch einmal oder wenden Sie sich an uns.",
        et: "See võib veidi aega võtta. Kontrollige, kas sellel on vool ja internet. Kui see nii jääb, avage meie sõnumis olev link uuesti või võtke meiega ühendust.",
        hu: "Ez eltarthat egy ideig. Ellenőrizze, hogy van-e áram és internet. Ha így marad, nyissa meg újra az üzenetünkben lévő linket, vagy forduljon hozzánk.",
        it: "Può volerci un po'. Controlli che abbia corrente e Internet. Se non cambia, apra di nuovo il link nel nostro messaggio oppure ci contatti.",
        pl: "To może chwilę potrwać. Sprawdź, czy ma prąd i internet. Jeśli nic się nie zmieni, otwórz ponownie link z naszej wiadomości albo skontaktuj się z nami.",
        ro: "Poate dura puțin. Verificați că are curent și internet. Dacă rămâne așa, deschideți din nou linkul din mesajul nostru sau contactați-ne.",
        sv: "Det kan ta en stund. Kontrollera att den har ström och internet. Om det inte ändras kan du öppna länken i vårt meddelande igen eller kontakta oss.",
    }
    /// Title after the owner gave up.
    StoppedTitle {
        en: "Nothing was changed",
        de: "Es wurde nichts geändert",
        et: "Midagi ei muudetud",
        hu: "Semmi sem változott",
        it: "Non è stato modificato nulla",
        pl: "Nic nie zostało zmienione",
        ro: "Nu s-a modificat nimic",
        sv: "Ingenting har ändrats",
    }
    /// How to go on.
    StoppedBody {
        en: "You have left before the end. To try again, open the link in our message again.",
        de: "Sie haben vor dem Ende abgebrochen. Um es noch einmal zu versuchen, öffnen Sie den Link in unserer Nachricht noch einmal.",
        et: "Te katkestasite enne lõppu. Uuesti proovimiseks avage meie sõnumis olev link uuesti.",
        hu: "A vége előtt kilépett. Ha újra próbálná, nyissa meg újra az üzenetünkben lévő linket.",
        it: "Ha interrotto prima della fine. Per riprovare, apra di nuovo il link nel nostro messaggio.",
        pl: "Przerwano przed końcem. Aby spróbować ponownie, otwórz jeszcze raz link z naszej wiadomości.",
        ro: "Ați renunțat înainte de final. Pentru a încerca din nou, deschideți din nou linkul din mesajul nostru.",
        sv: "Du avbröt innan det var klart. Öppna länken i vårt meddelande igen om du vill försöka på nytt.",
    }
    /// Before the contact line.
    Contact {
        en: "Any questions? Contact us:",
        de: "Haben Sie Fragen? So erreichen Sie uns:",
        et: "Küsimusi? Võtke meiega ühendust:",
        hu: "Kérdése van? Elérhetőségünk:",
        it: "Domande? Ci contatti:",
        pl: "Masz pytania? Skontaktuj się z nami:",
        ro: "Aveți întrebări? Contactați-ne:",
        sv: "Har du frågor? Kontakta oss:",
    }
    /// Without a contact line.
    NoContact {
        en: "Any questions? Contact your energy supplier.",
        de: "Haben Sie Fragen? Wenden Sie sich an Ihren Energieversorger.",
        et: "Küsimusi? Võtke ühendust oma energiatarnijaga.",
        hu: "Kérdése van? Forduljon az energiaszolgáltatójához.",
        it: "Domande? Contatti il Suo fornitore di energia.",
        pl: "Masz pytania? Skontaktuj się ze swoim dostawcą energii.",
        ro: "Aveți întrebări? Contactați furnizorul dumneavoastră de energie.",
        sv: "Har du frågor? Kontakta din energileverantör.",
    }
    /// Name of the links to the other languages.
    Languages {
        en: "Languages",
        de: "Sprachen",
        et: "Keeled",
        hu: "Nyelvek",
        it: "Lingue",
        pl: "Języki",
        ro: "Limbi",
        sv: "Språk",
    }
}

/// A page for the owner of a heat pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerPage {
    /// The page with the button.
    Offer,
    /// It is connected already.
    Connected,
    /// The link's time is over.
    Expired,
    /// The link is none of ours, or belongs to nobody here any more.
    Invalid,
    /// The partner or the store does not answer.
    Away,
    /// Too many requests.
    Limited,
    /// The partner asks nothing of the owner.
    NotNeeded,
    /// After the login: it is looked for.
    Waiting,
    /// After the login: it is there.
    Arrived,
    /// After the login: it is not there.
    Late,
    /// The owner gave up.
    Stopped,
}

impl OwnerPage {
    /// Every page.
    pub const ALL: [Self; 11] = [
        Self::Offer,
        Self::Connected,
        Self::Expired,
        Self::Invalid,
        Self::Away,
        Self::Limited,
        Self::NotNeeded,
        Self::Waiting,
        Self::Arrived,
        Self::Late,
        Self::Stopped,
    ];

    /// Its title.
    pub fn title(self) -> PageText {
        match self {
            Self::Offer => PageText::OfferTitle,
            Self::Connected => PageText::ConnectedTitle,
            Self::Expired => PageText::ExpiredTitle,
            Self::Invalid => PageText::InvalidTitle,
            Self::Away => PageText::AwayTitle,
            Self::Limited => PageText::LimitedTitle,
            Self::NotNeeded => PageText::NotNeededTitle,
            Self::Waiting => PageText::WaitingTitle,
            Self::Arrived => PageText::ArrivedTitle,
            Self::Late => PageText::LateTitle,
            Self::Stopped => PageText::StoppedTitle,
        }
    }

    /// Its paragraphs.
    pub fn paragraphs(self) -> &'static [PageText] {
        match self {
            Self::Offer => &[PageText::OfferReason, PageText::OfferSteps, PageText::OfferPromise],
            Self::Connected => &[PageText::ConnectedBody],
            Self::Expired => &[PageText::ExpiredBody],
            Self::Invalid => &[PageText::InvalidBody],
            Self::Away => &[PageText::AwayBody],
            Self::Limited => &[PageText::LimitedBody],
            Self::NotNeeded => &[PageText::NotNeededBody],
            Self::Waiting => &[PageText::WaitingBody],
            Self::Arrived => &[PageText::ArrivedBody],
            Self::Late => &[PageText::LateBody],
            Self::Stopped => &[PageText::StoppedBody],
        }
    }

    /// Status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Offer
            | Self::Connected
            | Self::NotNeeded
            | Self::Waiting
            | Self::Arrived
            | Self::Late
            | Self::Stopped => 200,
            Self::Invalid => 404,
            Self::Expired => 410,
            Self::Limited => 429,
            Self::Away => 503,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::language::PAGE_LANGUAGES;
    use super::*;

    #[test]
    fn every_text_is_there_in_every_language_of_the_partners_pages() {
        for text in PageText::ALL {
            for (language, _) in PAGE_LANGUAGES {
                assert!(text.is_in(language), "{text:?} lacks {language}");
                let said = text.say(language);
                assert!(!said.trim().is_empty() && said.trim() == said, "{text:?} {language}");
                let is_translated = language == FALLBACK_LANGUAGE || said != text.say(FALLBACK_LANGUAGE);
                assert!(is_translated, "{text:?} is English in {language}");
            }
        }
    }

    #[test]
    fn a_text_that_a_language_lacks_is_english() {
        for language in ["fr", "", "DE", "xx"] {
            assert!(!PageText::Button.is_in(language));
            assert_eq!(PageText::Button.say(language), "Connect again", "{language}");
        }
    }

    #[test]
    fn every_page_has_a_title_of_its_own_and_says_something() {
        for (place, page) in OwnerPage::ALL.into_iter().enumerate() {
            assert!(!page.paragraphs().is_empty(), "{page:?}");
            assert!(OwnerPage::ALL[place + 1..].iter().all(|other| other.title() != page.title()), "{page:?}");
        }
    }
}
