"""An Entra tenant that is polled through Microsoft Graph: `source` says what is asked, the others how."""
