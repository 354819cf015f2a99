"""Whether a licence, by its name, allows commercial use; for bases, recordings and what is made with both.

Not legal advice: only names that are known to allow it count as allowed; all others are forbidden or unknown. A
declaration such as "my own recording" is no licence: it allows whoever makes it to use what is his.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from talim.own_recordings import declares_own_recording

Use = Literal["allowed", "forbidden", "unknown"]
# whoever says so keeps the recording, and what is made with it, to himself; selling it is another question
_FORBIDS_PUBLISHING = re.compile(
    r"\bND\b|NO-?DERIV|PROPRIETARY|RESEARCH ONLY|"
    r"(PERSONAL|PRIVATE|OWN|HOME) USE|EIGENGEBRAUCH|EIGENNUTZUNG|EIGENEN? (NUTZUNG|GEBRAUCH)|PRIVATGEBRAUCH|"
    r"USAGE (PERSONNEL|PRIVE)|USO (PERSONAL|PRIVADO|PROPIO|PESSOAL|PERSONALE)|KISISEL KULLANIM|KENDI KULLANIM|"
    r"個人(的な)?(使用|利用)|私的(使用|利用)"
)
_FORBIDS_SALE = re.compile(
    r"\bNC\b|\bNON[- ]?COMMERCIAL|\bNOT?[- ]((FOR|ANY)[- ])?COMMERCIAL|\bNOT FOR SALE|"
    r"TICARI OLMAYAN|TICARI (KULLANIM|AMACLA)\w* (YASAK|KULLANILAMAZ)|NICHT[- ]?KOMMERZIELL|"
    r"KEINE KOMMERZIELLE|NO COMERCIAL|NAO[- ]COMERCIAL|NON COMMERCIALE|"
    r"НЕКОММЕРЧЕСК|गैर[- ]?व्यावसायिक|अव्यावसायिक|非商用|非営利|非商业|非商業|비상업|"
    r"商用(利用|使用)?(は)?(不可|禁止)|営利目的.*(不可|禁止)"
)
_RESERVES = re.compile(
    r"ALL RIGHTS RESERVED|©|\(C\) |TUM HAKLARI SAKLI|ALLE RECHTE VORBEHALTEN|TOUS DROITS RESERVES|"
    r"TODOS LOS DERECHOS RESERVADOS|TODOS OS DIREITOS RESERVADOS|TUTTI I DIRITTI RISERVATI|सर्वाधिकार सुरक्षित|"
    r"無断(転載|使用|複製)|"
    r"版权所有|版權所有|ВСЕ ПРАВА ЗАЩИЩЕНЫ"
)
_ALLOWS = re.compile(
    r"^(CC0(-1\.0)?|CC[ -]?ZERO|PUBLIC[- ]DOMAIN|PDM(-1\.0)?|CC[- ]BY([- ]SA)?([- ]\d\.\d)?([- ][A-Z]{2})?|"
    r"APACHE[- ]2\.0|MIT|BSD([- ][23](-CLAUSE)?)?)$"
)
_ALLOWS_PUBLISHING = re.compile(r"^CC[- ]BY[- ]NC([- ]SA)?([- ]\d\.\d)?([- ][A-Z]{2})?$")  # besides _ALLOWS
# of the column consent; "not needed" and the like say yes
_REFUSES_CONSENT = re.compile(
    r"no|none|not given|never|nein|non|hayır|いいえ|なし|नहीं|.*\b(refus|withdr|revok|declin|denied).*"
)
_CREATIVE_COMMONS_ADDRESS = re.compile(
    r"(HTTPS?://)?(WWW\.)?CREATIVECOMMONS\.ORG/(LICENSES|PUBLICDOMAIN)/(?P<code>[A-Z-]+)(/(?P<version>\d\.\d))?"
    r"(/[A-Z]{2})?(/DEED(\.[A-Z-]+)?|/LEGALCODE)?/?"
)
_ELEMENTS = {"BY": "ATTRIBUTION", "NC": "COMMERCIAL", "ND": "DERIV", "SA": "SHARE"}
_CREATIVE_COMMONS_NAME = re.compile(
    r"CREATIVE COMMONS "
    r"(?P<elements>ATTRIBUTION(?:[ -]+(?:NON[- ]?COMMERCIAL|NO[- ]?DERIV(?:ATIVE)?S?|SHARE[- ]?ALIKE))*)"
    r"(?: (?P<version>\d\.\d))?(?: (?:INTERNATIONAL|UNPORTED|GENERIC))?(?: PUBLIC)?(?: LICEN[CS]E)?(?: (\d\.\d))?"
)


def allows_commercial_use(licence: str) -> Use:
    """Whether a licence allows commercial use of what was made with it; names with additional words are unknown.

    A declaration of one's own recording allows it, to whoever made it, unless it says otherwise.
    """
    name = plain_name(licence)
    if _FORBIDS_PUBLISHING.search(name) or _FORBIDS_SALE.search(name):
        return "forbidden"
    if is_own_declaration(licence):
        return "allowed"
    if _RESERVES.search(name):
        return "forbidden"
    return "allowed" if _ALLOWS.match(name) else "unknown"


def is_own_declaration(licence: str) -> bool:
    """Whether it is no licence but the declaration, in any of many languages, that the recording is the user's own."""
    return declares_own_recording(str(licence))


def refuses_consent(consent: str) -> bool:
    """Whether a value of the column consent says that the performers gave none."""
    return bool(_REFUSES_CONSENT.fullmatch(consent.strip().lower()))


def licence_remark(licence: str) -> str:
    """What to add to a licence as it was written: that it is not understood, or a declaration; else empty."""
    if is_own_declaration(licence):
        return " (your own recording)"
    unclear = allows_commercial_use(licence) == "unknown" and plain_name(licence) not in ("", "UNKNOWN")
    return " (not understood, counts as unknown)" * unclear


def commercial_use_objection(licence: str) -> str:
    """Why a licence prevents commercial use; empty where it allows it."""
    use = allows_commercial_use(licence)
    if use == "forbidden":
        return f"its licence ({licence}) forbids commercial use"
    return f"its licence ({licence or 'unknown'}) is not known to allow commercial use" * (use == "unknown")


def publishing_objection(licence: str) -> str:
    """Why a licence prevents that what was trained with it is published; empty where it allows that.

    Only names that are known to allow it do, those for non-commercial use included, and declarations of one's own
    recording that do not keep it private. Values joined by "; " count each for itself.
    """
    for part in str(licence).split("; "):
        name = plain_name(part)
        own = is_own_declaration(part)
        if _FORBIDS_PUBLISHING.search(name) or (_RESERVES.search(name) and not own):
            return f"its licence ({part}) does not allow it"
        if not (own or _ALLOWS.match(name) or _ALLOWS_PUBLISHING.match(name)):
            return (
                "its licence is unknown"
                if name in ("", "UNKNOWN")
                else f"its licence ({part}) is not known to allow it"
            )
    return ""


def plain_name(licence: str) -> str:
    """The name in capitals, full-width letters as plain ones, Latin letters without marks, single blanks.

    Addresses and full names of Creative Commons licences become short names such as "CC BY-SA 4.0".
    """
    text = unicodedata.normalize("NFKC", str(licence)).replace("ı", "i").upper()
    text = unicodedata.normalize("NFC", re.sub("(?<=[A-Z])[\u0300-\u036f]+", "", unicodedata.normalize("NFD", text)))
    text = re.sub("[\u2010-\u2015\u2212]", "-", text).replace("_", "-")
    return _short_creative_commons(" ".join(text.split()))


def _short_creative_commons(name: str) -> str:
    """A Creative Commons address or full name as its short one, "CC BY-SA 4.0"; any other name as it is."""
    if address := _CREATIVE_COMMONS_ADDRESS.fullmatch(name):
        code, version = address["code"], address["version"] or ""
        return {"ZERO": "CC0", "MARK": "PUBLIC DOMAIN"}.get(code, f"CC {code} {version}".strip())
    if full := _CREATIVE_COMMONS_NAME.fullmatch(name):
        codes = [code for code, word in _ELEMENTS.items() if word in full["elements"]]
        return f"CC {'-'.join(codes)} {full['version'] or ''}".strip()
    return name
