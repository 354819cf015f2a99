"""Declarations such as "my own recording": not a licence, but the word of somebody who holds the rights.

A declaration is recognised only where every word of it is understood: "my own recording of a Beatles song" is none.
"""

from __future__ import annotations

import re
import unicodedata


def _vocabulary(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _phrases(words: str) -> re.Pattern[str]:
    """Any of these phrases, the longest first."""
    return re.compile("|".join(sorted(words.split(), key=len, reverse=True)), re.IGNORECASE)


# Words that say whose it is. Latin ones are written without marks, as they are compared.
_OWN_WORDS = _vocabulary("""
own mine ours selfmade selfrecorded
eigen eigene eigener eigenes eigenen eigenem selbst mein meine meiner meines meinen unser unsere unserer
unseres
eigenaufnahme eigenaufnahmen eigenproduktion eigenproduktionen eigenkomposition eigenkompositionen
propre propres mon ma mes notre nos
propia propias propio propios mia mias mio mios mis nuestra nuestro nuestras nuestros
propria proprie proprio propri proprias proprios minha minhas meu meus nossa nosso nostra nostro miei mie
eigengemaakt zelf mijn onze egen egna eget min mina mitt vara oma omat
kendi kendim kendimiz benim bizim kaydim kaydimiz kayitlarim kayitlarimiz eserim eserlerim eserimiz
icram icralarim bestem bestelerim bestemiz cekimim calisim yorumum
собственная собственные собственное собственный моя мои мое мой наша наши наш
मेरी मेरा मेरे अपनी अपना अपने हमारी हमारा हमारे स्वयं खुद स्वरचित मैंने हमने
আমার নিজের নিজস্ব আমাদের میری میرا اپنی اپنا ہماری خودم خودمان
تسجيلي تسجيلاتي ملكي عملي
""")
# Sentences that say it in words that alone would not: "recorded by me", "my recording", "rights holder: me".
_OWN_SENTENCES = re.compile(
    r"\b(?:recorded|made|played|performed|composed|written|produced|sung) by (?:me|us|myself|ourselves)\b|"
    r"\b(?:i|we) (?:own|hold|am the|are the|made|recorded|played|performed|composed|wrote|produced|sang)\b|"
    r"\b(?:owner|holder|owned|held|belongs?)(?: is| are| by| to)? (?:me|us|myself|ourselves)\b|"
    r"\b(?:my|our) (?:\w+ ){0,2}(?:recordings?|music|works?|compositions?|performances?|productions?|sounds?|songs?|"
    r"tracks?|pieces?|material|rights?|copyrights?)\b|\bself (?:recorded|made|produced|composed|performed|played)\b|"
    r"\bvon (?:mir|uns)\b|\brechte (?:liegen )?bei (?:mir|uns)\b|\benregistree?s? par (?:moi|nous)\b|"
    r"\b(?:droits|tout) m appartien(?:nen)?t\b|\b(?:mi|mis) (?:grabacion|grabaciones|obra|obras|musica)\b|"
    r"\bgrabad[oa]s? por (?:mi|nosotros)\b|\bgravad[oa]s? por (?:mim|nos)\b|\bregistrat[oaie] da (?:me|noi)\b|"
    r"\b(?:bana|bize) ait|\bhaklar\w* (?:bende|bizde)\b|\bhak sahibi(?:yim|yiz)\b|"
    r"\b(?:записано|записана|сделано|сделана) (?:мной|мною|нами)\b|\bправа принадлежат (?:мне|нам)\b|\bخاص بي\b"
)
# A company's, said as a whole: "studio" alone says nothing, and "the studio A" or "the studio owner" is another.
_COMPANY = "(?:(?:recording )?studio|(?:music |production )?company|firm)"
_COMPANY_SENTENCES = re.compile(
    r"\b(?:"
    rf"(?:(?:owned|held) by|(?:property|copyright) of|copyright(?: by)?|belongs? to) our (?:own )?{_COMPANY}|"
    rf"(?:owned by|property of|belongs? to) the {_COMPANY}|(?:studio|company) (?:owned|property)|"
    r"(?:eigentum|besitz) (?:(?:des|unseres) (?:(?:ton)?studios|unternehmens)|(?:der|unserer) (?:firma|gesellschaft))|"
    r"gehort (?:(?:dem|unserem) (?:(?:ton)?studio|unternehmen)|(?:der|unserer) (?:firma|gesellschaft))|"
    r"(?:studio|firmen)(?:eigentum|eigen)|"
    r"(?:propriete|appartient) (?:du|au|(?:de|a) (?:notre|la|l)) (?:studio|societe|entreprise)|"
    r"(?:propiedad|pertenece) (?:del|al|(?:de|a) (?:nuestr[oa]|la)) (?:estudio|empresa|compania|sociedad)|"
    r"(?:studyo(?:muza|ya)|sirket(?:imize|e)|firma(?:miza|ya)) ait(?:tir)?|"
    r"(?:studyo(?:muzun|nun)?|sirket(?:imizin|in)?|firma(?:mizin|nin)?) (?:mali|mulku|mulkiyetinde)(?:dir)?"
    r")\b(?! (?:[^\W\d]|\d{1,3}|by|owner|holder)\b)"
)
# That the players were paid, and that there is no limit.
_ADDITIONS = re.compile(
    r"\b(?:no|without) restrictions\b|"
    r"\b(?:session|performance|performers?|musicians?|players?)(?: s)?(?: fees?)?(?: (?:is|are|was|were))? paid"
    r"(?: in full)?\b|"
    r"\b(?:honorare?|gagen?) (?:ist |sind |wurden? )?(?:be|ge)zahlt\b|\bcachets? (?:payes?|regles?)\b|"
    r"\b(?:honorarios|caches?) pagados?\b|\b(?:icra|seans|muzisyen) ucret(?:i|leri) oden(?:di|mistir)\b"
)

# Words that may stand beside them: what it is, how it came to be, and that it may be used.
_OTHER_WORDS = _vocabulary("""
my our me us myself ourselves owner holder wrote sang the a an this these it its is are was were am i we by
in at of and to for from be all full
right rights copyright c recording recordings record recorded music work works composition compositions
composed
performance performances performed played sung written made produced production productions sound sounds
song songs
track tracks piece pieces material self studio live hold holds held own owned belong belongs free freely use
used
using uses usage may can commercial commercially allowed permitted ok okay yes
reserved everything copyrights solely entirely take takes
aufnahme aufnahmen aufgenommen eingespielt gespielt gesungen komponiert komposition gemacht produziert
produktion werk
werke musik mir uns von die der das alle rechte recht liegen bei frei verwendbar kommerziell kommerzielle
nutzung erlaubt darf
genutzt werden ist sind einspielung stuck stucke
enregistrement enregistrements enregistre enregistree enregistrees par oeuvre oeuvres musique composition
tous droits
droit m appartient a moi nous appartiennent appartient tout
libre libres usage commercial autorise utilisation de le la les l d
grabacion grabaciones grabado grabada obra obras musica todos los derechos son uso libre comercial permitido
por hecho
gravacao gravacoes gravado gravada feito os direitos sao uso livre comercial permitido e registrazione
registrazioni
registrato registrata da mi nosotros mim noi opera opere diritti tutti i uso libero commerciale consentito
il lo
opname opnames gemaakt muziek door inspelning inspelningar nauhoitus
kaydi kayitlari kayit kayitlar kaydettim kaydettigim caldim caldigim soyledim yaptim yaptigim besteledim
eser muzik ait
aittir tum haklari haklar hak sahibi sahibiyim benimdir serbest serbestce kullanim kullanilabilir ticari
kullanima izin
verilir izni vardir var icra beste bana bize bende bizde sahibiyiz tarafimdan tarafimizdan yapilmistir
kaydedilmistir kaydedildi yapildi
запись записи записано записана сделано сделана музыка исполнение сочинение произведение все права
принадлежат у меня мной мною нами мне нам
можно использовать свободно коммерческое использование разрешено
रिकॉर्डिंग रिकार्डिंग रचना गायन वादन संगीत प्रस्तुति की का के है हैं द्वारा किया गया ध्वनि मूल सभी अधिकार
पास व्यावसायिक उपयोग
अनुमति रिकॉर्ड मुक्त से की हुई
রেকর্ডিং রেকর্ড করা সঙ্গীত ریکارڈنگ ہے ضبط موسیقی تسجيل خاص الخاص من بي
""")
# Chinese, Japanese and Korean have no blanks between words.
_OWN_PHRASES = _phrases("""
自作自演 自作曲 自作 自演 自録音 自家録音 自己録音 自己制作 自己所有 自主制作 自主録音 (?:当社|弊社|自社)(?:制作|録音)
(?:(?:当社|弊社|自社|当|弊)?スタジオ|当社|弊社|自社|会社)(?:[がにの])?(?:所有|保有|帰属)
自分で(?:録音|演奏|作曲|制作|収録)(?:した|し)? 自分たちの 自分の 自身の 私の 僕の 俺の
我々の 当社の 弊社の 自社の 私が 自分が 当方 本人
オリジナル 権利者は(?:自分|私|本人|当社|弊社)
自己录制 自己錄製 自己录的 自己創作 自己创作 自己制作 自己的 自录 自錄 自制 自製 原创 原創 我自己的 我的
我们的 我們的 本人的
내가 내 우리 직접 자체 본인 자작 저의 나의
""")
_OTHER_PHRASES = _phrases("""
録音した 録音 演奏した 演奏 作品 楽曲 曲 音楽 音源 収録 制作 作曲 のもの もの です である による 権利 著作権
すべて 全て は が に を で の と も
所有 保有 帰属 あります ある しています している した 自由に 自由 使用可能 使用可 使用できる 使える 使って
よい 良い 利用可能 利用可 利用できる
商用利用可能 商用利用可 商用利用OK 商用可 商用利用 商用使用可 商用 OK 可能 可 制限なし フリー 生演奏
スタジオ 自宅 (?:演奏料|演奏者|出演料|ギャラ|報酬|謝礼)(?:[はをもに])?(?:お)?支払い?済み?
录音 錄音 录制 錄製 音乐 音樂 作品 演奏 演唱 版权 版權 所有 的 可 自由 使用 可以 商用 归本人 归我
녹음한 녹음 제작한 제작 연주한 연주 음악 작품 곡 자유롭게 사용 가능 상업적 이용 한 의
""")
_NAMED_STUDIO = re.compile(r"[a-z]\W*(?:スタジオ|会社)")  # "Aスタジオ所有"
_NO_BLANKS = re.compile("[\u3005-\u30ff\u3400-\u9fff\uac00-\ud7a3々]+")


def declares_own_recording(text: str) -> bool:
    """Whether a text says, in words that are all understood, that the recording is the writer's own."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("ı", "i").replace("i\u0307", "i")
    runs = _NO_BLANKS.findall(plain)
    own = [run for run in runs if _OWN_PHRASES.search(run)]
    if any(not _all_understood(run) for run in runs) or _NAMED_STUDIO.search(plain):
        return False
    words = _words(_NO_BLANKS.sub(" ", plain))
    sentence = _ADDITIONS.sub("", " ".join(words))
    sentence, companies = _COMPANY_SENTENCES.subn("", sentence)
    known = _OWN_WORDS | _OTHER_WORDS
    if any(word not in known and not re.fullmatch(r"\d{1,4}", word) for word in sentence.split()):
        return False
    return bool(own or companies or _OWN_WORDS.intersection(words) or _OWN_SENTENCES.search(sentence))


def _all_understood(run: str) -> bool:
    return not _OTHER_PHRASES.sub("", _OWN_PHRASES.sub("", run))


def _words(text: str) -> list[str]:
    """The words of a text, Latin letters without their marks; a mark of another script belongs to its letter."""
    bare = re.sub("(?<=[a-z])[\u0300-\u036f]+", "", unicodedata.normalize("NFD", text))
    bare = unicodedata.normalize("NFC", bare).replace("œ", "oe").replace("ß", "ss").replace("©", " copyright ")
    return "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in bare).split()
