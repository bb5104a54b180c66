"""The free fonts that nano is pretrained on and the ones it is judged on, all from Debian packages.

Columns: package, file (face number after `#` for a collection), family, scripts (l Latin, z Chinese,
f Persian). The split is by family: no family has faces on both sides. Typewriter faces (Courier and its
kin, Nimbus Mono, FreeMono, Liberation Mono, GNU Typewriter, Tlwg Typewriter, Courier Prime) are left out: they
belong to the quickstart's domain, which the base model must not have seen. Carlito is left out because it is
drawn after Lato, Droid Sans Fallback because WenQuanYi Micro Hei (held out) is drawn after it.
"""

from __future__ import annotations

from typing import NamedTuple


class FontRow(NamedTuple):
    """One face of a Debian font package."""

    package: str
    file: str
    face: int
    family: str
    scripts: str
    split: str


_TRAIN = """
fonts-dejavu-core DejaVuSans.ttf dejavu-sans lf
fonts-dejavu-core DejaVuSans-Bold.ttf dejavu-sans lf
fonts-dejavu-core DejaVuSerif.ttf dejavu-serif l
fonts-dejavu-core DejaVuSerif-Bold.ttf dejavu-serif l
fonts-dejavu-core DejaVuSansMono.ttf dejavu-mono l
fonts-dejavu-extra DejaVuSansCondensed.ttf dejavu-sans lf
fonts-dejavu-extra DejaVuSans-Oblique.ttf dejavu-sans l
fonts-dejavu-extra DejaVuSerif-Italic.ttf dejavu-serif l
fonts-liberation2 LiberationSerif-Regular.ttf liberation-serif l
fonts-liberation2 LiberationSerif-Bold.ttf liberation-serif l
fonts-liberation2 LiberationSerif-Italic.ttf liberation-serif l
fonts-liberation2 LiberationSans-Regular.ttf liberation-sans l
fonts-liberation2 LiberationSans-Bold.ttf liberation-sans l
fonts-freefont-ttf FreeSans.ttf freesans l
fonts-freefont-ttf FreeSansBold.ttf freesans l
fonts-freefont-ttf FreeSerif.ttf freeserif lf
fonts-freefont-ttf FreeSerifBold.ttf freeserif lf
fonts-freefont-ttf FreeSerifItalic.ttf freeserif l
fonts-linuxlibertine LinLibertine_R.otf libertine l
fonts-linuxlibertine LinLibertine_RB.otf libertine l
fonts-linuxlibertine LinLibertine_RI.otf libertine l
fonts-linuxlibertine LinBiolinum_R.otf biolinum l
fonts-lato Lato-Regular.ttf lato l
fonts-lato Lato-Bold.ttf lato l
fonts-lato Lato-Light.ttf lato l
fonts-lato Lato-Italic.ttf lato l
fonts-roboto-unhinted Roboto-Regular.ttf roboto l
fonts-roboto-unhinted Roboto-Medium.ttf roboto l
fonts-roboto-unhinted Roboto-Italic.ttf roboto l
fonts-roboto-slab RobotoSlab-Regular.otf roboto-slab l
fonts-roboto-slab RobotoSlab-Bold.otf roboto-slab l
fonts-cmu cmunrm.ttf cmu-serif l
fonts-cmu cmunbx.ttf cmu-serif l
fonts-cmu cmunti.ttf cmu-serif l
fonts-cmu cmunss.ttf cmu-sans l
fonts-gfs-didot GFSDidot.otf gfs-didot l
fonts-gfs-artemisia GFSArtemisia.otf gfs-artemisia l
fonts-gfs-neohellenic GFSNeohellenic.otf gfs-neohellenic l
fonts-inconsolata Inconsolata.otf inconsolata l
fonts-open-sans OpenSans-Regular.ttf open-sans l
fonts-open-sans OpenSans-Semibold.ttf open-sans l
fonts-open-sans OpenSans-Italic.ttf open-sans l
fonts-open-sans OpenSans-CondLight.ttf open-sans l
fonts-ebgaramond EBGaramond12-Regular.otf garamond l
fonts-ebgaramond EBGaramond12-Italic.otf garamond l
fonts-sil-gentium Gentium-R.ttf gentium l
fonts-sil-gentium Gentium-I.ttf gentium l
fonts-sil-charis CharisSIL-Regular.ttf charis l
fonts-sil-charis CharisSIL-Bold.ttf charis l
fonts-mononoki mononoki-Regular.ttf mononoki l
fonts-hack Hack-Regular.ttf hack l
fonts-play Play-Regular.ttf play l
fonts-urw-base35 C059-Roman.otf c059 l
fonts-urw-base35 C059-Bold.otf c059 l
fonts-urw-base35 NimbusRoman-Regular.otf nimbus-roman l
fonts-urw-base35 NimbusRoman-Bold.otf nimbus-roman l
fonts-urw-base35 NimbusRoman-Italic.otf nimbus-roman l
fonts-urw-base35 NimbusSans-Regular.otf nimbus-sans l
fonts-urw-base35 NimbusSans-Bold.otf nimbus-sans l
fonts-urw-base35 NimbusSansNarrow-Regular.otf nimbus-sans l
fonts-urw-base35 P052-Roman.otf p052 l
fonts-urw-base35 P052-Italic.otf p052 l
fonts-urw-base35 URWBookman-Light.otf bookman l
fonts-urw-base35 URWGothic-Book.otf urw-gothic l
fonts-vollkorn Vollkorn-Regular.ttf vollkorn l
fonts-vollkorn Vollkorn-Bold.ttf vollkorn l
fonts-jetbrains-mono JetBrainsMono-Regular.ttf jetbrains-mono l
fonts-inter Inter-Regular.otf inter l
fonts-inter Inter-SemiBold.otf inter l
fonts-quicksand Quicksand-Medium.ttf quicksand l
fonts-comic-neue ComicNeue-Regular.otf comic-neue l
fonts-oldstandard OldStandard-Regular.ttf old-standard l
fonts-oldstandard OldStandard-Italic.ttf old-standard l
fonts-essays1743 Essays1743.ttf essays1743 l
fonts-yanone-kaffeesatz YanoneKaffeesatz-Regular.otf yanone l
fonts-goudybookletter GoudyBookletter1911.otf goudy l
fonts-oxygen Oxygen-Sans.ttf oxygen l
fonts-adf-accanthis AccanthisADFStd-Regular.otf accanthis l
fonts-adf-gillius GilliusADF-Regular.otf gillius l
fonts-adf-gillius GilliusADF-Bold.otf gillius l
fonts-adf-romande RomandeADFStd-Regular.otf romande l
fonts-noto-core NotoSans-Regular.ttf noto-sans l
fonts-noto-core NotoSans-Bold.ttf noto-sans l
fonts-noto-core NotoSerif-Regular.ttf noto-serif l
fonts-noto-core NotoSerif-Italic.ttf noto-serif l
fonts-noto-core NotoSerifDisplay-Regular.ttf noto-serif-display l
fonts-noto-cjk NotoSansCJK-Regular.ttc#2 noto-sans-cjk z
fonts-noto-cjk NotoSansCJK-Bold.ttc#2 noto-sans-cjk z
fonts-noto-cjk-extra NotoSansCJK-Light.ttc#2 noto-sans-cjk z
fonts-noto-cjk NotoSerifCJK-Regular.ttc#2 noto-serif-cjk z
fonts-noto-cjk NotoSerifCJK-Bold.ttc#2 noto-serif-cjk z
fonts-wqy-zenhei wqy-zenhei.ttc#0 wqy-zenhei z
fonts-arphic-gbsn00lp gbsn00lp.ttf arphic-song z
fonts-arphic-gkai00mp gkai00mp.ttf arphic-kai z
fonts-noto-cjk-extra NotoSerifCJK-Light.ttc#2 noto-serif-cjk z
fonts-arphic-uming uming.ttc#0 arphic-song z
fonts-arphic-ukai ukai.ttc#0 arphic-kai z
fonts-smiley-sans SmileySans-Oblique.ttf smiley z
fonts-noto-core NotoNaskhArabic-Regular.ttf noto-naskh f
fonts-noto-core NotoNaskhArabic-Bold.ttf noto-naskh f
fonts-noto-core NotoSansArabic-Regular.ttf noto-sans-arabic f
fonts-noto-core NotoSansArabic-Bold.ttf noto-sans-arabic f
fonts-noto-core NotoKufiArabic-Regular.ttf noto-kufi f
fonts-farsiweb homa.ttf homa f
fonts-farsiweb nazli.ttf nazli f
fonts-farsiweb nazlib.ttf nazli f
fonts-farsiweb titr.ttf titr f
fonts-hosny-amiri Amiri-Regular.ttf amiri f
fonts-hosny-amiri Amiri-Bold.ttf amiri f
fonts-hosny-amiri Amiri-Slanted.ttf amiri f
fonts-freefarsi FreeFarsi.ttf freefarsi f
fonts-freefarsi FreeFarsi-Bold.ttf freefarsi f
fonts-freefarsi FreeFarsi-Italic.ttf freefarsi f
fonts-sil-lateef Lateef-Regular.ttf lateef f
fonts-sil-lateef Lateef-Bold.ttf lateef f
fonts-hosny-thabit Thabit.ttf thabit f
"""

_HELDOUT = """
fonts-crosextra-caladea Caladea-Regular.ttf caladea l
fonts-crosextra-caladea Caladea-Bold.ttf caladea l
fonts-junicode JunicodeTwoBeta-Regular.otf junicode l
fonts-cantarell Cantarell-Regular.otf cantarell l
fonts-sil-andika Andika-Regular.ttf andika l
fonts-league-spartan LeagueSpartan-Regular.otf league-spartan l
fonts-wqy-microhei wqy-microhei.ttc#0 wqy-microhei z
fonts-lxgw-wenkai LXGWWenKai-Regular.ttf wenkai z
fonts-babelstone-han BabelStoneHan.ttf babelstone-han z
fonts-sil-scheherazade Scheherazade-Regular.ttf scheherazade f
fonts-sil-harmattan Harmattan-Regular.ttf harmattan f
fonts-kacst-one KacstOne.ttf kacst-one f
"""


def _rows(table: str, split: str) -> list[FontRow]:
    rows = []
    for line in table.split("\n"):
        if line:
            package, file, family, scripts = line.split()
            name, _, face = file.partition("#")
            rows.append(FontRow(package, name, int(face or 0), family, scripts, split))
    return rows


FONTS: tuple[FontRow, ...] = (*_rows(_TRAIN, "train"), *_rows(_HELDOUT, "heldout"))


def packages() -> list[str]:
    """The Debian packages to install, sorted."""
    return sorted({row.package for row in FONTS})
