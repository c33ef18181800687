package event

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Every event is as the published schema says, and nothing else is.
func TestSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("event.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("event.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(line []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	seen := make(map[Kind]bool)
	for _, e := range samples() {
		seen[e.Kind] = true
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(line); err != nil {
			t.Errorf("%s\n%v", line, err)
		}
		if err := validate(bytes.Replace(line, []byte(`"warder":{`), []byte(`"warder":{"new":1,`), 1)); err == nil {
			t.Errorf("a field that the schema does not have is accepted: %s", line)
		}
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("no sample of kind %d", k)
		}
	}
}

// The schema has each field that a line can have.
func TestSchemaIsComplete(t *testing.T) {
	var doc struct {
		Defs struct {
			Event map[string]any `json:"event"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &doc); err != nil {
		t.Fatal(err)
	}
	fields(t, "event", reflect.TypeFor[line](), doc.Defs.Event)
}

func fields(t *testing.T, path string, typ reflect.Type, schema map[string]any) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
		if items, ok := schema["items"].(map[string]any); ok {
			schema = items
		}
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[Event]() || typ.PkgPath() == "time" {
		return
	}
	properties, _ := schema["properties"].(map[string]any)
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		p, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("the schema has no %s.%s", path, name)
			continue
		}
		fields(t, path+"."+name, typ.Field(i).Type, p)
	}
}
