"""Identity providers that are polled: Okta and Microsoft Graph, each a few requests over one pager that proves completeness."""
