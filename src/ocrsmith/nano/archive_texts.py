"""Lines of an invented archive, English, French and Chinese, from templates: what the quickstart's scans say.

All names, numbers and events are made up by a random generator.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

MAX_LATIN = 45
MAX_CHINESE = 22
_SLOT = re.compile(r"\{(\w+)\}")
_CONTRACTIONS = (
    (re.compile(r"\bde (?=[aeéiouh][a-zéè])"), "d'"),
    (re.compile(r"\bde le "), "du "),
    (re.compile(r"\bà le "), "au "),
)

_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "name": "Ashworth|Bellamy|Carver|Dunmore|Eastlake|Fenwick|Garrow|Hartley|Ingram|Kershaw|"
        "Lockwood|"
        "Marsden|Norcott|Oakley|Penrose|Rawlins|Sheldon|Thornbury|Upcott|Winslow",
        "initial": "A.|B.|C.|E.|F.|G.|H.|J.|L.|M.|R.|T.|W.|J. W.|A. E.|T. H.",
        "title": "Mr|Mrs|Dr|Capt.|Rev.|Miss|Col.|Alderman",
        "place": "Harwick|Stonebridge|Millbrook|Eastport|Crowley|Ferndale|Oldham Cross|Westgate|"
        "Port Arran|"
        "Kirkby|Langford|Saltmarsh",
        "month": "January|February|March|April|May|June|July|August|September|October|November|December",
        "thing": "deeds|maps|ledgers|photographs|letters|plans|vouchers|registers|seals|receipts|charters",
        "office": "the Treasurer|the Secretary|the Clerk|the Surveyor|the Keeper|the Board|the Registrar",
        "goods": "coal|oats|timber|lamp oil|blankets|salt|rope|slates|canvas|flour",
        "state": "damaged by damp|torn at the fold|in fair order|wanting the cover|much faded|incomplete",
        "matter": "the harbour dues|the new road|the water supply|the school roof|the market hall|the bridge",
    },
    "fr": {
        "name": "Aubert|Blanchet|Carrel|Delorme|Estève|Fabre|Garnier|Hébert|Imbert|Joubert|Lambert|"
        "Mercier|"
        "Noël|Ollivier|Périer|Rocher|Sérurier|Thévenot|Vasseur|Villard",
        "initial": "A.|B.|C.|É.|F.|G.|H.|J.|L.|M.|P.|R.|J.-B.|M.-L.",
        "title": "M.|Mme|Me|le sieur|la veuve|le Dr|l'abbé|Mlle",
        "place": "Montclar|Saint-Aubin|Belleroche|Villefort|Port-Neuf|Chênevert|La Ferté|Grandpré|"
        "Sévérac|"
        "Haute-Combe|Vieux-Moulin|Pont-l'Abbé",
        "month": "janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre",
        "thing": "actes|cartes|registres|photographies|lettres|plans|quittances|minutes|sceaux|reçus|liasses",
        "office": "le trésorier|le secrétaire|le greffier|le maire|le conservateur|le préfet|l'archiviste",
        "goods": "charbon|avoine|bois|huile|couvertures|sel|cordages|ardoises|toile|farine",
        "state": "taché d'humidité|déchiré au pli|en bon état|sans couverture|très effacé|incomplet",
        "matter": "les droits du port|la route neuve|l'adduction d'eau|le toit de l'école|la halle|le pont",
    },
    "zh": {
        "surname": "王|李|张|刘|陈|杨|赵|黄|周|吴|徐|孙|胡|朱|高|林|何|郭|马|罗",
        "given": "志明|国强|秀英|德福|永安|桂兰|玉珍|长贵|文华|建国|树林|玉山|春生|世昌|金宝|淑芳|永年|福来",
        "place": "东河|柳林|石桥|新塘|青山|白沙|南岭|西关|双井|长乐|临江|古城",
        "unit": "县|镇|乡|村|公社|大队|农场|粮站",
        "office": "档案室|秘书处|总务科|财务股|登记处|民政科|文书股|收发室|供销社|保管组",
        "thing": "卷宗|地契|账册|名册|图纸|信件|照片|公函|收据|契约|报表|底稿",
        "goods": "小麦|稻谷|棉花|食盐|木材|煤炭|土布|大豆|桐油|茶叶",
        "measure": "斤|担|石|吨|包|箱",
        "matter": "修堤|春耕|防汛|征粮|办学|筑路|水利|护林|卫生|夜校",
        "state": "受潮|残缺|虫蛀|完好|字迹不清|缺封面|已修补|边角破损",
        "post": "主任|书记|会计|保管员|队长|科长|文书|校长",
    },
}

_LINES: dict[str, dict[str, str]] = {
    "en": {
        "minutes": "Minutes of the meeting held {date}|Present: {title} {name}, {title} {name}|"
        "In the chair: {title} {initial} {name}|Resolved that {matter} be surveyed|"
        "{title} {name} spoke against the motion|The minutes of {day} {month} were read|"
        "{office} reported on {matter}|Agreed to defer until {day} {month} next|"
        "Item {small}: {matter}|Seconded by {title} {name} of {place}|"
        "Carried by {small} votes to {small}|"
        "The meeting rose at {hour} o'clock|Apologies from {title} {initial} {name}",
        "register": "No {big}/{letter} {name}, {initial}, of {place}|Entered {date} by {initial} {name}|"
        "Folio {big}: {thing}, {state}|{small} boxes of {thing} from {place}|"
        "Received of {name}: {small} {thing}|"
        "{place} parish, {thing}, {year}|See also No {big}/{letter} and {big}/{letter}|"
        "Withdrawn by {office}, {date}|No {big}/{letter} {thing}, {state}|Returned {date}, {state}",
        "letter": "{place}, {date}|Dear {title} {name},|I enclose the {thing} you asked for|"
        "Your letter of {day} {month} came to hand|we cannot trace the {thing} of {year}|"
        "I am, Sir, your obedient servant|The {thing} were sent by rail to {place}|"
        "{office} regrets the delay|in the matter of {matter}|With reference to file {big}/{letter}|"
        "Kindly return the {thing} by {day} {month}|Signed: {initial} {name}",
        "stores": "Stores at {place}, {date}|{big} lb of {goods} at {small}s. {small}d.|"
        "{small} sacks of {goods}, {state}|Issued to {title} {name}: {goods}|"
        "Balance forward: {big} {small}s. {small}d.|"
        "{goods}, {goods} and {goods} wanting|Order No {big} to {name} of {place}|"
        "Checked by {initial} {name}, {day} {month}|Paid {day} {month} {year}, voucher {big}",
    },
    "fr": {
        "minutes": "Séance du {date}|Présents : {title} {name}, {title} {name}|"
        "Président : {title} {initial} {name}|"
        "Le conseil examine {matter}|{title} {name} s'oppose au projet|"
        "Lecture du procès-verbal du {day} {month}|"
        "{office} rend compte de sa mission|Adopté par {small} voix contre {small}|"
        "La suite est remise au {day} {month}|Article {small} : {matter}|"
        "La séance est levée à {hour} heures|"
        "Excusé : {title} {initial} {name}|Vu par {office}, à {place}",
        "register": "No {big}/{letter} {name}, {initial}, de {place}|Inscrit le {date}|"
        "Folio {big} : {thing}, {state}|{small} liasses venant de {place}|"
        "Reçu de {title} {name} : {small} {thing}|"
        "Commune de {place}, {thing}, {year}|Voir aussi No {big}/{letter}|Retiré par {office} en {year}|"
        "No {big}/{letter} {thing}, {state}|Rendu le {date}, {state}|"
        "Cote {letter} {big}, carton {small}",
        "letter": "{place}, le {date}|Monsieur et cher confrère,|Veuillez trouver ci-joint les {thing}|"
        "Votre lettre du {day} {month} est arrivée|les {thing} de {year} sont égarés|"
        "J'ai l'honneur de vous informer|Les {thing} partent pour {place}|{office} regrette ce retard|"
        "au sujet du dossier {big}/{letter}|Prière de renvoyer les {thing}|"
        "Votre dévoué {initial} {name}|"
        "Reçu copie le {day} {month} {year}",
        "stores": "Magasin de {place}, {date}|{big} kg de {goods} à {small} fr. {day}|"
        "{small} sacs de {goods}, {state}|"
        "Remis à {title} {name} : {goods}|Reste en caisse : {big} fr. {day}|{goods}, {goods} et {goods}|"
        "Commande No {big} à {name}|Vérifié par {initial} {name}|"
        "Payé le {day} {month} {year}, bon {big}",
    },
    "zh": {
        "minutes": "会议记录 第{small}号|时间：{date}|"
        "地点：{place}{unit}{office}|出席：{person}、{person}、{person}|"
        "主席：{person} 记录：{person}|讨论{matter}事项|"
        "{person}报告{matter}情况|决议：{month}月底前完成{matter}|"
        "{place}{unit}代表{small}人列席|赞成{small}票，反对{small}票|下次会议定于{month}月{day}日|"
        "{post}{person}缺席，已请假|宣读上次会议记录|散会时间：下午{hour}时",
        "register": "登记册 第{small}卷|第{big}号 {thing}{small}件|{place}{unit}{thing}，{state}|"
        "{year}年{month}月{day}日收到|经手人：{person}|{thing}{small}册，{state}|字第{big}号，存{office}|"
        "移交{office}保管|姓名：{person} 籍贯：{place}|"
        "页{small}至{big}，{state}|借阅人：{person}，{month}月归还|"
        "原件存{place}{unit}|保管期限：永久|共计{big}件",
        "letter": "{place}{unit}{office}：|{month}月{day}日来函收悉|兹送上{thing}{small}份，请查收|"
        "关于{matter}一事，{post}已批示|请派{person}同志前来接洽|此致敬礼|{date}|附：{thing}{small}件|"
        "该{thing}至今未见寄到|特此函复|{post}{person}谨启|抄送：{place}{unit}、{office}|请于{month}月{day}日前退还{thing}",
        "stores": "{place}{unit}物资登记表|{goods}{big}{measure}，{state}|收{goods}{small}{measure}，付{big}元|"
        "上月结存：{big}元{small}角|发给{person}{goods}{small}{measure}|验收人：{post}{person}|"
        "仓库{small}号，存{goods}、{goods}|单据第{big}号|{year}年度{goods}统计|欠{goods}{small}{measure}未交|"
        "合计：{big}{measure}|{month}月{day}日运往{place}",
    },
}

HEADINGS = {
    "en": "REGISTER|MINUTES|INVENTORY|STORES|COPY|ABSTRACT|RECEIPTS|SCHEDULE|MEMORANDUM",
    "fr": "REGISTRE|INVENTAIRE|SOMMAIRE|COPIE|EXTRAIT|BORDEREAU|MAGASIN|MINUTES|ANNEXE",
    "zh": "会议记录|登记册|物资清单|移交目录|往来公函|卷内目录|收发簿|名册",
}
KINDS = ("minutes", "register", "letter", "stores")
LANGUAGES = ("en", "fr", "zh")


def archive_line(language: str, kind: str, rng: random.Random) -> str:
    """One line of a document.

    Args:
        language: "en", "fr" or "zh".
        kind: "minutes", "register", "letter" or "stores".

    Returns:
        At most 45 characters ("zh": 22)."""
    limit = MAX_CHINESE if language == "zh" else MAX_LATIN
    while True:
        text = _filled(rng.choice(_LINES[language][kind].split("|")), language, rng)
        if len(text) <= limit:
            return text[0].upper() + text[1:] if text.startswith("the ") else text


def archive_heading(language: str, rng: random.Random) -> str:
    """A heading of one word, as it is typed with wide spacing."""
    return rng.choice(HEADINGS[language].split("|"))


def chinese_words() -> list[str]:
    """The words of two hanzi that the Chinese lines are made of."""
    slots = [words.split("|") for slot, words in _WORDS["zh"].items() if slot != "state"]
    return [word for words in slots for word in words if len(word) == 2]


def _filled(template: str, language: str, rng: random.Random) -> str:
    numbers: dict[str, Callable[[], str]] = {
        "day": lambda: str(rng.randint(1, 28)),
        "year": lambda: str(rng.randint(1908, 1964)),
        "small": lambda: str(rng.randint(2, 24)),
        "hour": lambda: str(rng.randint(2, 11)),
        "big": lambda: str(rng.choice((rng.randint(100, 999), rng.randint(1000, 4999)))),
        "letter": lambda: rng.choice("ABCDEFHKM"),
    }

    used: set[str] = set()

    def fill(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot == "date":
            return _date(language, rng)
        if slot == "person":
            return _filled("{surname}{given}", language, rng)
        if slot == "month" and language == "zh":
            return str(rng.randint(1, 12))
        if slot in numbers:
            return numbers[slot]()
        word = rng.choice([word for word in _WORDS[language][slot].split("|") if word not in used])
        used.add(word)
        return word

    text = _SLOT.sub(fill, template)
    if language == "fr":
        for pattern, contracted in _CONTRACTIONS:
            text = pattern.sub(contracted, text)
    return text


def _date(language: str, rng: random.Random) -> str:
    if language == "zh":
        if rng.random() < 0.5:
            return _filled("{year}年{month}月{day}日", language, rng)
        digits = "〇一二三四五六七八九"
        year = "".join(digits[int(d)] for d in str(rng.randint(1912, 1964)))
        day = rng.choice(("五", "十二", "廿三", "三十"))
        return f"{year}年{rng.choice('一二三四五六七八九十')}月{day}日"
    if language == "fr" and rng.random() < 0.15:
        return _filled("1er {month} {year}", language, rng)
    return _filled("{day} {month} {year}", language, rng)
