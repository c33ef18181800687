package declaration

import _ "embed"

// Schema is the JSON schema of a service's declaration.
//
//go:embed schema.json
var Schema []byte
