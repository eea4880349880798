-- What Podero said in a refusal may name people. Only our own words about it are kept from now on; what former versions
-- kept goes.
UPDATE events SET detail = 'Podero refused it; what it said is not kept' WHERE reason = 'refused';
UPDATE events SET detail = 'Podero has another user with this e-mail address' WHERE reason = 'email_taken';
