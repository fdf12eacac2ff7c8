# SPDX-License-Identifier: GPL-2.0-or-later
"""The property TIMEZONE for Windows, which has its own names: those of the IANA database are found in a table.

Source: Unicode CLDR 48, supplemental/windowsZones.xml, with the links of tzdata 2025b; zones that Windows has only had
since 2026 have the names that they had before, which any Windows knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.guest import Guest
from snf_image_helper.windows.registry import HIVE_SOFTWARE, opened
from snf_image_shared.errors import GuestError

PROPERTY = "TIMEZONE"
_KEY = r"Microsoft\Windows NT\CurrentVersion\Time Zones"


def windows_name(zone: str) -> str | None:
    """What Windows calls a zone of the IANA database, or of its own, in any case; None if there is none."""
    return _names().get(zone.strip().casefold())


def check(zone: str) -> str:
    """As windows_name(). Raises GuestError for a zone that has no name in Windows."""
    name = windows_name(zone)
    if name is None:
        raise GuestError(
            f"property {PROPERTY}: {shown(zone[:80])!r} is no time zone that Windows has; write one like "
            "Europe/Athens, or its name in Windows, as GTB Standard Time"
        )
    return name


def check_in(guest: Guest, name: str) -> None:
    """Raises GuestError when the guest's Windows does not know the zone yet: Setup would stop at such a name."""
    if not is_in(guest, name):
        raise GuestError(
            f"property {PROPERTY}: the guest's Windows does not have {name!r}; update it in the image, or take another"
        )


def is_in(guest: Guest, name: str) -> bool:
    """Whether the guest's Windows knows the zone, as far as it tells which it knows."""
    with opened(guest, HIVE_SOFTWARE) as hive:
        known = hive.keys(_KEY)
    return not known or name.casefold() in {zone.casefold() for zone in known}


def _names() -> dict[str, str]:
    return {name.casefold(): windows for windows, zones in _lines() for name in (windows, *zones)}


def _lines() -> Iterator[tuple[str, list[str]]]:
    for line in _ZONES.strip().replace("\n ", " ").split("\n"):
        name, _, zones = line.partition(":")
        yield name.removeprefix("=") if name.startswith("=") else f"{name} Standard Time", zones.split()


# " Standard Time" goes behind each name but those with "=".
_ZONES = """
AUS Central: Australia/Darwin Australia/North
AUS Eastern: Australia/ACT Australia/Canberra Australia/Melbourne Australia/NSW Australia/Sydney Australia/Victoria
Afghanistan: Asia/Kabul
Alaskan: America/Anchorage America/Juneau America/Metlakatla America/Nome America/Sitka America/Yakutat US/Alaska
Aleutian: America/Adak America/Atka US/Aleutian
Altai: Asia/Barnaul
Arab: Asia/Aden Asia/Bahrain Asia/Kuwait Asia/Qatar Asia/Riyadh
Arabian: Asia/Dubai Asia/Muscat Etc/GMT-4
Arabic: Asia/Baghdad
Argentina: America/Argentina/Buenos_Aires America/Argentina/Catamarca America/Argentina/ComodRivadavia
 America/Argentina/Cordoba America/Argentina/Jujuy America/Argentina/La_Rioja America/Argentina/Mendoza
 America/Argentina/Rio_Gallegos America/Argentina/Salta America/Argentina/San_Juan America/Argentina/San_Luis
 America/Argentina/Tucuman America/Argentina/Ushuaia America/Buenos_Aires America/Catamarca America/Cordoba
 America/Jujuy America/Mendoza America/Rosario
Astrakhan: Europe/Astrakhan Europe/Ulyanovsk
Atlantic: America/Glace_Bay America/Goose_Bay America/Halifax America/Moncton America/Thule Atlantic/Bermuda
 Canada/Atlantic
Aus Central W.: Australia/Eucla
Azerbaijan: Asia/Baku
Azores: America/Scoresbysund Atlantic/Azores
Bahia: America/Bahia
Bangladesh: Asia/Dacca Asia/Dhaka Asia/Thimbu Asia/Thimphu
Belarus: Europe/Minsk
Bougainville: Pacific/Bougainville
Canada Central: America/Regina America/Swift_Current Canada/Saskatchewan
Cape Verde: Atlantic/Cape_Verde Etc/GMT+1
Caucasus: Asia/Yerevan
Cen. Australia: Australia/Adelaide Australia/Broken_Hill Australia/South Australia/Yancowinna
Central America: America/Belize America/Costa_Rica America/El_Salvador America/Guatemala America/Managua
 America/Tegucigalpa Etc/GMT+6 Pacific/Galapagos
Central Asia: Antarctica/Vostok Asia/Bishkek Asia/Kashgar Asia/Urumqi Etc/GMT-6 Indian/Chagos
Central Brazilian: America/Campo_Grande America/Cuiaba
Central Europe: Europe/Belgrade Europe/Bratislava Europe/Budapest Europe/Ljubljana Europe/Podgorica Europe/Prague
 Europe/Tirane
Central European: Europe/Sarajevo Europe/Skopje Europe/Warsaw Europe/Zagreb Poland
Central Pacific: Antarctica/Casey Etc/GMT-11 Pacific/Efate Pacific/Guadalcanal Pacific/Kosrae Pacific/Noumea
 Pacific/Pohnpei Pacific/Ponape
Central: America/Chicago America/Indiana/Knox America/Indiana/Tell_City America/Knox_IN America/Matamoros
 America/Menominee America/North_Dakota/Beulah America/North_Dakota/Center America/North_Dakota/New_Salem
 America/Ojinaga America/Rainy_River America/Rankin_Inlet America/Resolute America/Winnipeg CST6CDT Canada/Central
 US/Central US/Indiana-Starke
=Central Standard Time (Mexico): America/Bahia_Banderas America/Chihuahua America/Merida America/Mexico_City
 America/Monterrey Mexico/General
Chatham Islands: NZ-CHAT Pacific/Chatham
China: Asia/Chongqing Asia/Chungking Asia/Harbin Asia/Hong_Kong Asia/Macao Asia/Macau Asia/Shanghai Hongkong PRC
Cuba: America/Havana Cuba
Dateline: Etc/GMT+12
E. Africa: Africa/Addis_Ababa Africa/Asmara Africa/Asmera Africa/Dar_es_Salaam Africa/Djibouti Africa/Kampala
 Africa/Mogadishu Africa/Nairobi Antarctica/Syowa Etc/GMT-3 Indian/Antananarivo Indian/Comoro Indian/Mayotte
E. Australia: Australia/Brisbane Australia/Lindeman Australia/Queensland
E. Europe: Europe/Chisinau Europe/Tiraspol
E. South America: America/Sao_Paulo Brazil/East
Easter Island: Chile/EasterIsland Pacific/Easter
Eastern: America/Detroit America/Indiana/Petersburg America/Indiana/Vincennes America/Indiana/Winamac America/Iqaluit
 America/Kentucky/Louisville America/Kentucky/Monticello America/Louisville America/Montreal America/Nassau
 America/New_York America/Nipigon America/Pangnirtung America/Thunder_Bay America/Toronto Canada/Eastern EST5EDT
 US/Eastern US/Michigan
=Eastern Standard Time (Mexico): America/Cancun
Egypt: Africa/Cairo Egypt
Ekaterinburg: Asia/Yekaterinburg
FLE: Europe/Helsinki Europe/Kiev Europe/Kyiv Europe/Mariehamn Europe/Riga Europe/Sofia Europe/Tallinn Europe/Uzhgorod
 Europe/Vilnius Europe/Zaporozhye
Fiji: Pacific/Fiji
GMT: Atlantic/Canary Atlantic/Faeroe Atlantic/Faroe Atlantic/Madeira Eire Europe/Belfast Europe/Dublin Europe/Guernsey
 Europe/Isle_of_Man Europe/Jersey Europe/Lisbon Europe/London GB GB-Eire Portugal WET
GTB: Asia/Famagusta Asia/Nicosia EET Europe/Athens Europe/Bucharest Europe/Nicosia
Georgian: Asia/Tbilisi
Greenland: America/Godthab America/Nuuk
Greenwich: Africa/Abidjan Africa/Accra Africa/Bamako Africa/Banjul Africa/Bissau Africa/Conakry Africa/Dakar
 Africa/Freetown Africa/Lome Africa/Monrovia Africa/Nouakchott Africa/Ouagadougou Africa/Timbuktu America/Danmarkshavn
 Atlantic/Reykjavik Atlantic/St_Helena Iceland
Haiti: America/Port-au-Prince
Hawaiian: Etc/GMT+10 HST Pacific/Honolulu Pacific/Johnston Pacific/Rarotonga Pacific/Tahiti US/Hawaii
India: Asia/Calcutta Asia/Kolkata
Iran: Asia/Tehran Iran
Israel: Asia/Jerusalem Asia/Tel_Aviv Israel
Jordan: Asia/Amman
Kaliningrad: Europe/Kaliningrad
Korea: Asia/Seoul ROK
Libya: Africa/Tripoli Libya
Line Islands: Etc/GMT-14 Pacific/Kiritimati
Lord Howe: Australia/LHI Australia/Lord_Howe
Magadan: Asia/Magadan
Magallanes: America/Coyhaique America/Punta_Arenas
Marquesas: Pacific/Marquesas
Mauritius: Indian/Mahe Indian/Mauritius Indian/Reunion
Middle East: Asia/Beirut
Montevideo: America/Montevideo
Morocco: Africa/Casablanca Africa/El_Aaiun
Mountain: America/Boise America/Cambridge_Bay America/Ciudad_Juarez America/Denver America/Edmonton America/Inuvik
 America/Shiprock America/Yellowknife Canada/Mountain MST7MDT Navajo US/Mountain
=Mountain Standard Time (Mexico): America/Mazatlan Mexico/BajaSur
Myanmar: Asia/Rangoon Asia/Yangon Indian/Cocos
N. Central Asia: Asia/Novosibirsk
Namibia: Africa/Windhoek
Nepal: Asia/Kathmandu Asia/Katmandu
New Zealand: Antarctica/McMurdo Antarctica/South_Pole NZ Pacific/Auckland
Newfoundland: America/St_Johns Canada/Newfoundland
Norfolk: Pacific/Norfolk
North Asia East: Asia/Irkutsk
North Asia: Asia/Krasnoyarsk Asia/Novokuznetsk
North Korea: Asia/Pyongyang
Omsk: Asia/Omsk
Pacific SA: America/Santiago Chile/Continental
Pacific: America/Los_Angeles America/Vancouver Canada/Pacific PST8PDT US/Pacific
=Pacific Standard Time (Mexico): America/Ensenada America/Santa_Isabel America/Tijuana Mexico/BajaNorte
Pakistan: Asia/Karachi
Paraguay: America/Asuncion
Qyzylorda: Asia/Qyzylorda
Romance: Africa/Ceuta CET Europe/Brussels Europe/Copenhagen Europe/Madrid Europe/Paris MET
=Russia Time Zone 10: Asia/Srednekolymsk
=Russia Time Zone 11: Asia/Anadyr Asia/Kamchatka
=Russia Time Zone 3: Europe/Samara
Russian: Europe/Kirov Europe/Moscow Europe/Simferopol W-SU
SA Eastern: America/Belem America/Cayenne America/Fortaleza America/Maceio America/Paramaribo America/Recife
 America/Santarem Antarctica/Palmer Antarctica/Rothera Atlantic/Stanley Etc/GMT+3
SA Pacific: America/Atikokan America/Bogota America/Cayman America/Coral_Harbour America/Eirunepe America/Guayaquil
 America/Jamaica America/Lima America/Panama America/Porto_Acre America/Rio_Branco Brazil/Acre EST Etc/GMT+5 Jamaica
SA Western: America/Anguilla America/Antigua America/Aruba America/Barbados America/Blanc-Sablon America/Boa_Vista
 America/Curacao America/Dominica America/Grenada America/Guadeloupe America/Guyana America/Kralendijk America/La_Paz
 America/Lower_Princes America/Manaus America/Marigot America/Martinique America/Montserrat America/Port_of_Spain
 America/Porto_Velho America/Puerto_Rico America/Santo_Domingo America/St_Barthelemy America/St_Kitts America/St_Lucia
 America/St_Thomas America/St_Vincent America/Tortola America/Virgin Brazil/West Etc/GMT+4
SE Asia: Antarctica/Davis Asia/Bangkok Asia/Ho_Chi_Minh Asia/Jakarta Asia/Phnom_Penh Asia/Pontianak Asia/Saigon
 Asia/Vientiane Etc/GMT-7 Indian/Christmas
Saint Pierre: America/Miquelon
Sakhalin: Asia/Sakhalin
Samoa: Pacific/Apia
Sao Tome: Africa/Sao_Tome
Saratov: Europe/Saratov
Singapore: Asia/Brunei Asia/Kuala_Lumpur Asia/Kuching Asia/Makassar Asia/Manila Asia/Singapore Asia/Ujung_Pandang
 Etc/GMT-8 Singapore
South Africa: Africa/Blantyre Africa/Bujumbura Africa/Gaborone Africa/Harare Africa/Johannesburg Africa/Kigali
 Africa/Lubumbashi Africa/Lusaka Africa/Maputo Africa/Maseru Africa/Mbabane Etc/GMT-2
South Sudan: Africa/Juba
Sri Lanka: Asia/Colombo
Sudan: Africa/Khartoum
Syria: Asia/Damascus
Taipei: Asia/Taipei ROC
Tasmania: Antarctica/Macquarie Australia/Currie Australia/Hobart Australia/Tasmania
Tocantins: America/Araguaina
Tokyo: Asia/Dili Asia/Jayapura Asia/Tokyo Etc/GMT-9 Japan Pacific/Palau
Tomsk: Asia/Tomsk
Tonga: Pacific/Tongatapu
Transbaikal: Asia/Chita
Turkey: Asia/Istanbul Europe/Istanbul Turkey
Turks And Caicos: America/Grand_Turk
US Eastern: America/Fort_Wayne America/Indiana/Indianapolis America/Indiana/Marengo America/Indiana/Vevay
 America/Indianapolis US/East-Indiana
US Mountain: America/Creston America/Dawson_Creek America/Fort_Nelson America/Hermosillo America/Phoenix Etc/GMT+7 MST
 US/Arizona
=UTC: Etc/GMT Etc/GMT+0 Etc/GMT-0 Etc/GMT0 Etc/Greenwich Etc/UCT Etc/UTC Etc/Universal Etc/Zulu GMT GMT+0 GMT-0 GMT0
 Greenwich UCT UTC Universal Zulu
=UTC+12: Etc/GMT-12 Kwajalein Pacific/Funafuti Pacific/Kwajalein Pacific/Majuro Pacific/Nauru Pacific/Tarawa
 Pacific/Wake Pacific/Wallis
=UTC+13: Etc/GMT-13 Pacific/Enderbury Pacific/Fakaofo Pacific/Kanton
=UTC-02: America/Noronha Atlantic/South_Georgia Brazil/DeNoronha Etc/GMT+2
=UTC-08: Etc/GMT+8 Pacific/Pitcairn
=UTC-09: Etc/GMT+9 Pacific/Gambier
=UTC-11: Etc/GMT+11 Pacific/Midway Pacific/Niue Pacific/Pago_Pago Pacific/Samoa US/Samoa
Ulaanbaatar: Asia/Choibalsan Asia/Ulaanbaatar Asia/Ulan_Bator
Venezuela: America/Caracas
Vladivostok: Asia/Ust-Nera Asia/Vladivostok
Volgograd: Europe/Volgograd
W. Australia: Australia/Perth Australia/West
W. Central Africa: Africa/Algiers Africa/Bangui Africa/Brazzaville Africa/Douala Africa/Kinshasa Africa/Lagos
 Africa/Libreville Africa/Luanda Africa/Malabo Africa/Ndjamena Africa/Niamey Africa/Porto-Novo Africa/Tunis Etc/GMT-1
W. Europe: Arctic/Longyearbyen Atlantic/Jan_Mayen Europe/Amsterdam Europe/Andorra Europe/Berlin Europe/Busingen
 Europe/Gibraltar Europe/Luxembourg Europe/Malta Europe/Monaco Europe/Oslo Europe/Rome Europe/San_Marino
 Europe/Stockholm Europe/Vaduz Europe/Vatican Europe/Vienna Europe/Zurich
W. Mongolia: Asia/Hovd
West Asia: Antarctica/Mawson Asia/Almaty Asia/Aqtau Asia/Aqtobe Asia/Ashgabat Asia/Ashkhabad Asia/Atyrau Asia/Dushanbe
 Asia/Oral Asia/Qostanay Asia/Samarkand Asia/Tashkent Etc/GMT-5 Indian/Kerguelen Indian/Maldives
West Bank: Asia/Gaza Asia/Hebron
West Pacific: Antarctica/DumontDUrville Etc/GMT-10 Pacific/Chuuk Pacific/Guam Pacific/Port_Moresby Pacific/Saipan
 Pacific/Truk Pacific/Yap
Yakutsk: Asia/Khandyga Asia/Yakutsk
Yukon: America/Dawson America/Whitehorse Canada/Yukon
=Mid-Atlantic Standard Time:
=Kamchatka Standard Time:
"""
