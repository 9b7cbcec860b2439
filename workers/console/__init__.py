"""What the commands that read have to say: tables, one host's dossier, the doctor's checks."""
