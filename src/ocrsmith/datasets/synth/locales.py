"""What forms, receipts and tables say in each language: labels, names, how numbers and dates are written."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

_PERSIAN = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


@dataclass(frozen=True)
class Locale:
    """One language. Words are given as one string, separated by spaces or, where a part has spaces, by `|`."""

    code: str
    family: tuple[str, ...]
    given: tuple[str, ...]
    family_first: bool
    fields: Mapping[str, tuple[str, ...]]
    """Kind of value → labels of fields that have such a value."""
    titles: tuple[str, ...]
    shops: tuple[str, ...]
    items: tuple[str, ...]
    headings: tuple[str, ...]
    """Of table columns with words."""
    total: tuple[str, ...]
    """Subtotal, tax, total, cash."""
    thanks: tuple[str, ...]
    money: tuple[str, ...]
    """How amounts are written, `{}` for the number."""
    dates: tuple[str, ...]
    """With {y}, {m}, {d}; {m:02}; {name} for the month's name."""
    months: tuple[str, ...] = ()
    years: tuple[int, int] = (1950, 2035)
    digits: Mapping[int, int] | None = None
    separators: tuple[str, str] = (",", ".")
    """Between thousands, before decimals."""

    def write(self, text: str) -> str:
        """`text` with the language's digits."""
        return text.translate(self.digits) if self.digits else text

    def name(self, rng: random.Random) -> str:
        """A person's name."""
        family, given = rng.choice(self.family), rng.choice(self.given)
        if self.family_first:
            return family + given + (rng.choice(self.given) if rng.random() < 0.5 else "")
        return f"{given} {family}"

    def date(self, rng: random.Random) -> str:
        """A day."""
        month = rng.randint(1, 12)
        values = {"y": rng.randint(*self.years), "m": month, "d": rng.randint(1, 28)}
        name = self.months[month - 1] if self.months else ""
        return self.write(rng.choice(self.dates).format(**values, name=name))

    def number(self, rng: random.Random, most: int = 6) -> str:
        """A whole number of up to `most` digits, large ones mostly with separators."""
        value = int(10 ** rng.uniform(0, most))
        return self.write(f"{value:,}".replace(",", self.separators[0]) if rng.random() < 0.7 else str(value))

    def price(self, rng: random.Random, most: float = 4) -> str:
        """An amount without its currency."""
        value = int(10 ** rng.uniform(0.3, most))
        whole = f"{value:,}".replace(",", self.separators[0])
        return self.write(f"{whole}{self.separators[1]}{rng.randint(0, 99):02}")

    def amount(self, rng: random.Random) -> str:
        """An amount of money."""
        number = self.price(rng) if rng.random() < 0.6 else self.number(rng)
        return rng.choice(self.money).format(number)

    def phone(self, rng: random.Random) -> str:
        """A telephone number."""
        parts = [
            str(rng.randrange(10 ** (k - 1), 10**k)) for k in rng.choice(((3, 4, 4), (3, 8), (2, 3, 4), (11,)))
        ]
        return self.write(rng.choice(" -").join(parts))

    def serial(self, rng: random.Random) -> str:
        """A number of a document, an account, a place: digits, and in Latin some letters."""
        digits = "0123456789"
        pool = digits if self.digits or rng.random() < 0.5 else digits + "ABCDEFGHJKLMNPQRSTUVWXYZ"
        parts = ["".join(rng.choices(pool, k=rng.randint(2, 7))) for _ in range(rng.randint(1, 3))]
        return self.write(rng.choice("-/").join(parts))

    def value(self, kind: str, rng: random.Random) -> str:
        """A value of a kind that `fields` has, but for `text`."""
        makers = {
            "name": self.name,
            "date": self.date,
            "amount": self.amount,
            "number": self.number,
            "phone": self.phone,
            "serial": self.serial,
        }
        return makers[kind](rng)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split("|") if "|" in text else text.split())


ENGLISH = Locale(
    "en",
    _words("Smith Johnson Brown Taylor Miller Wilson Moore Clark Lewis Walker Hall King Wright Green"),
    _words("Mary James Linda Robert Susan David Emma Oliver Amelia Jack Grace Henry Alice Thomas Ruth Peter"),
    False,
    {
        "name": _words("Name|Applicant|Contact|Signed by|Patient|Guardian"),
        "date": _words("Date|Date of birth|Valid until|Issued on|Received"),
        "amount": _words("Amount|Total|Fee|Balance|Deposit"),
        "phone": _words("Phone|Mobile|Fax"),
        "serial": _words("ID No.|Account|Reference|Passport No.|Licence"),
        "number": _words("Quantity|Age|Pages|Units"),
        "text": _words("Address|Remarks|Subject|Occupation|Purpose|Company"),
    },
    _words("Application Form|Registration|Patient Record|Loan Request|Delivery Note|Claim Form"),
    _words("Corner Market|Green Grocer|City Books|Harbour Café|Star Pharmacy|North Hardware"),
    _words("Bread|Milk 1L|Coffee|Green tea|Apples 1kg|Rice 5kg|Soap|Batteries AA|Notebook|Olive oil|Eggs x12"),
    _words("Item|Description|Name|Region|Department|Category|Notes"),
    _words("Subtotal|Tax|TOTAL|Cash"),
    _words("Thank you!|Please come again|Have a nice day"),
    ("${}", "{}", "£{}", "{} USD", "€{}"),
    ("{d} {name} {y}", "{name} {d}, {y}", "{y}-{m:02}-{d:02}", "{d:02}/{m:02}/{y}"),
    _words("January February March April May June July August September October November December"),
)
FRENCH = Locale(
    "fr",
    _words("Martin Bernard Dubois Thomas Robert Richard Petit Durand Leroy Moreau Simon Laurent Lefèvre Faure"),
    _words("Marie Jean Pierre Françoise Louis Hélène André Chloé Étienne Léa Jules Zoé Benoît Agnès"),
    False,
    {
        "name": _words("Nom|Demandeur|Contact|Bénéficiaire"),
        "date": _words("Date|Né(e) le|Valable jusqu'au|Reçu le"),
        "amount": _words("Montant|Total|Solde|Acompte"),
        "phone": _words("Téléphone|Portable|Télécopie"),
        "serial": _words("N° de dossier|Compte|Référence|N° SIRET"),
        "number": _words("Quantité|Âge|Pages"),
        "text": _words("Adresse|Objet|Profession|Remarques|Société"),
    },
    _words("Formulaire de demande|Fiche d'inscription|Bon de livraison|Déclaration"),
    _words("Épicerie du Marché|Boulangerie Petit|Librairie du Port|Café de la Gare"),
    _words("Baguette|Lait 1L|Café|Thé vert|Pommes 1kg|Beurre|Savon|Fromage|Œufs x6|Huile d'olive"),
    _words("Article|Désignation|Région|Service|Catégorie|Remarques"),
    _words("Sous-total|TVA|TOTAL|Espèces"),
    _words("Merci de votre visite|À bientôt !"),
    ("{} €", "{} EUR", "{}"),
    ("{d} {name} {y}", "{d:02}/{m:02}/{y}", "{d:02}.{m:02}.{y}"),
    _words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
    separators=(" ", ","),
)
CHINESE = Locale(
    "zh",
    tuple("王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗"),
    tuple("伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀英华文玉红平"),
    True,
    {
        "name": _words("姓名 联系人 经办人 患者 法定代表人"),
        "date": _words("日期 出生日期 有效期至 签发日期 入院时间"),
        "amount": _words("金额 合计 费用 余额 押金"),
        "phone": _words("电话 手机 传真"),
        "serial": _words("身份证号 编号 账号 发票号码 合同编号"),
        "number": _words("数量 年龄 页数 份数"),
        "text": _words("地址 备注 事由 职业 单位 项目"),
    },
    _words("申请表 登记表 入库单 报销单 体检表 个人信息表"),
    _words("便民超市 新华书店 东方茶楼 康复药房 百味面馆"),
    _words("面包 牛奶 绿茶 苹果 大米 酱油 肥皂 电池 笔记本 花生油 鸡蛋 矿泉水 毛巾"),
    _words("品名 名称 部门 地区 类别 备注 规格"),
    _words("小计 税额 合计 现金"),
    _words("谢谢惠顾 欢迎再次光临"),
    ("¥{}", "{}元", "￥{}", "{}"),
    ("{y}年{m}月{d}日", "{y}-{m:02}-{d:02}", "{y}/{m}/{d}", "{y}.{m:02}.{d:02}"),
)
PERSIAN = Locale(
    "fa",
    _words("احمدی رضایی کریمی حسینی موسوی جعفری صادقی اکبری نوری مرادی قاسمی زارعی"),
    _words("علی مریم حسین زهرا رضا فاطمه مهدی سارا امیر نرگس پریسا کاوه"),
    False,
    {
        "name": _words("نام|نام پدر|متقاضی|گیرنده"),
        "date": _words("تاریخ|تاریخ تولد|تاریخ صدور|اعتبار تا"),
        "amount": _words("مبلغ|جمع|مانده|هزینه"),
        "phone": _words("تلفن|همراه|نمابر"),
        "serial": _words("کد ملی|شماره پرونده|شماره حساب|کد پستی"),
        "number": _words("تعداد|سن|صفحات"),
        "text": _words("نشانی|موضوع|شغل|توضیحات|شرکت"),
    },
    _words("فرم درخواست|برگه ثبت نام|رسید تحویل|گواهی"),
    _words("فروشگاه بهار|نان گندم|کتاب دانش|داروخانه امید"),
    _words("نان|شیر|چای سبز|سیب|برنج|روغن|صابون|پنیر|دفتر|قند|ماست|پسته"),
    _words("شرح|نام کالا|بخش|استان|گروه|توضیحات"),
    _words("جمع|مالیات|جمع کل|نقد"),
    _words("از خرید شما سپاسگزاریم|خوش آمدید"),
    ("{} ریال", "{} تومان", "{}"),
    ("{y}/{m:02}/{d:02}", "{d} {name} {y}"),
    _words("فروردین اردیبهشت خرداد تیر مرداد شهریور مهر آبان آذر دی بهمن اسفند"),
    (1300, 1410),
    _PERSIAN,
    ("٬", "٫"),
)
ARABIC = Locale(
    "ar",
    _words("حسن علي إبراهيم خليل منصور صالح ناصر سليم حداد نجار"),
    _words("محمد فاطمة أحمد مريم يوسف سارة عمر ليلى خالد نور"),
    False,
    {
        "name": _words("الاسم|اسم الأب|مقدم الطلب|المستلم"),
        "date": _words("التاريخ|تاريخ الميلاد|تاريخ الإصدار"),
        "amount": _words("المبلغ|المجموع|الرصيد|الرسوم"),
        "phone": _words("الهاتف|الجوال|الفاكس"),
        "serial": _words("رقم الهوية|رقم الملف|رقم الحساب"),
        "number": _words("العدد|العمر|الصفحات"),
        "text": _words("العنوان|الموضوع|المهنة|ملاحظات|الشركة"),
    },
    _words("نموذج طلب|استمارة تسجيل|إيصال استلام|شهادة"),
    _words("متجر الربيع|مخبز القمح|مكتبة المعرفة|صيدلية الأمل"),
    _words("خبز|حليب|شاي|تفاح|أرز|زيت|صابون|جبن|دفتر|سكر|لبن"),
    _words("الوصف|اسم الصنف|القسم|المنطقة|الفئة|ملاحظات"),
    _words("المجموع|الضريبة|الإجمالي|نقدا"),
    _words("شكرا لزيارتكم|أهلا وسهلا"),
    ("{} ريال", "{} دينار", "{}"),
    ("{y}/{m:02}/{d:02}", "{d} {name} {y}"),
    _words("يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر"),
    digits=_ARABIC,
    separators=("٬", "٫"),
)

LOCALES: Mapping[str, Locale] = {each.code: each for each in (ENGLISH, FRENCH, CHINESE, PERSIAN, ARABIC)}


def locale_of(text: str, script: str, wished: str | None = None) -> Locale:
    """The locale for a text: of its script, and where a script has several, the wished one if it is of them."""
    if script == "Han":
        return CHINESE
    if script == "Arabic":
        persian = wished == "fa" or (wished != "ar" and any(c in "پچژگکی" for c in text))
        return PERSIAN if persian else ARABIC
    return FRENCH if wished == "fr" else ENGLISH
