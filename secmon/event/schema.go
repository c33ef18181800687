package event

import _ "embed"

// Schema is the JSON schema of an event's JSON form.
//
//go:embed schema.json
var Schema []byte
