package declaration

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("service.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("service.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// The schema and the parser agree on what a declaration may be.
func TestSchemaAgreesWithParse(t *testing.T) {
	schema := compile(t)
	valid := func(src string) error {
		j, err := yaml.YAMLToJSON([]byte(src))
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		return schema.Validate(v)
	}
	for _, src := range []string{whole, "name: a", "name: a\nmemory: 64"} {
		if err := valid(src); err != nil {
			t.Errorf("%s\n%v", src, err)
		}
	}
	for _, src := range []string{
		"name: ../etc", "name: a\ncolour: red", "name: a\ncpus: -1", "name: a\nmemory: lots", "name: a\ncommand: {a: b}",
		"name: a\nworkdir: etc", "name: a\nwatchdog: bark", "name: a\nhealth: {interval: 1s}", "name: a\nrestart: {policy: sometimes}",
		"name: a\nrestart: {delay: 1s}", "name: a\nstop_timeout: -1s", "name: a\ndisks: [\"\"]", "name: a\nenv: {'A=B': c}",
		"name: a\nlan: {colour: red}", "name: a\nlan: {priority: 3}", "name: a\nlan: {allow: [{ports: all}]}", "name: a\nlan: {allow: [{from: a, to: b}]}", "name: a\nlan: {publish: ['']}",
	} {
		if valid(src) == nil {
			t.Errorf("the schema accepts %q", src)
		}
		if _, err := Parse([]byte(src)); err == nil {
			t.Errorf("Parse accepts %q", src)
		}
	}
	// What a service is as JSON is a declaration too.
	s, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := valid(string(j)); err != nil {
		t.Errorf("%s\n%v", j, err)
	}
	if again, err := Parse(j); err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("from JSON %+v, %v", again, err)
	}
}

// The schema has exactly the fields of the types.
func TestSchemaIsComplete(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(Schema, &doc); err != nil {
		t.Fatal(err)
	}
	fields(t, "service", reflect.TypeFor[Service](), doc)
}

func fields(t *testing.T, path string, typ reflect.Type, schema map[string]any) {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	properties, _ := schema["properties"].(map[string]any)
	if properties == nil {
		return
	}
	var names []string
	for _, f := range reflect.VisibleFields(typ) {
		if f.Anonymous {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if j, _, _ := strings.Cut(f.Tag.Get("json"), ","); j != name {
			t.Errorf("%s.%s: %q in YAML and %q in JSON", path, f.Name, name, j)
		}
		names = append(names, name)
		p, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("the schema has no %s.%s", path, name)
			continue
		}
		fields(t, path+"."+name, f.Type, p)
	}
	for name := range properties {
		if !slices.Contains(names, name) {
			t.Errorf("there is no %s.%s", path, name)
		}
	}
}
