"""An Okta org that is polled: `source` says what is asked, the others how."""
