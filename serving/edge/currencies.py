"""Currencies: their codes, and into how many minor units each is divided.

Source: ISO 4217:2015, list one of its maintenance agency (codes of money in use), with those withdrawn since
2017, which a history may hold. Codes of metals, of funds and for tests are no money.
"""

from __future__ import annotations

from typing import Final

_USUAL: Final = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR
JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD
NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN
SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
ANG BGN CUC HRK MRO SLL STD VEF ZWL
"""
_EXCEPTIONS: Final = {
    1: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    1000: "BHD IQD JOD KWD LYD OMR TND",
}
MINOR_UNITS: Final[dict[str, int]] = dict.fromkeys(_USUAL.split(), 100) | {
    code: units for units, codes in _EXCEPTIONS.items() for code in codes.split()
}
"""Code of a currency -> how many minor units make one of it (100 cents a euro)."""


def minor_units(value: float, currency: str) -> int:
    """|value| in minor units of `currency`, rounded to the nearest one. Errors: KeyError.

    >>> minor_units(19.99, "EUR"), minor_units(-500.0, "JPY"), minor_units(1.2345, "KWD")
    (1999, 500, 1234)
    """
    return round(abs(value) * MINOR_UNITS[currency])
