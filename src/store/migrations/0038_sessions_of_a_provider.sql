-- The role of a session whose login was at an identity provider. Of an operator's session it is NULL: the operator's row has the role.
ALTER TABLE sessions ADD COLUMN role TEXT;
