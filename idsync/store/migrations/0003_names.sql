-- Every address of a user and the folded displayName, so that filters on them read an index. Filled by store/upgrade.py.
ALTER TABLE users ADD COLUMN display_key TEXT;
CREATE TABLE user_emails (
  user_id   TEXT NOT NULL,
  email_key TEXT NOT NULL,
  PRIMARY KEY (user_id, email_key)
);
CREATE INDEX user_emails_by_key ON user_emails (email_key);
