package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// openAPI is the published description of the control socket.
type openAPI struct {
	compiler *jsonschema.Compiler
	Paths    map[string]map[string]json.RawMessage `json:"paths"`
}

const openAPIURL = "https://warder.example/supervisor/api/openapi.json"

func readOpenAPI(t *testing.T) *openAPI {
	t.Helper()
	src, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	api := &openAPI{compiler: jsonschema.NewCompiler()}
	if err := json.Unmarshal(src, api); err != nil {
		t.Fatal(err)
	}
	for address, text := range map[string][]byte{openAPIURL: src, "https://warder.example/supervisor/declaration/schema.json": declaration.Schema} {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := api.compiler.AddResource(address, doc); err != nil {
			t.Fatal(err)
		}
	}
	return api
}

// Each route is described, and nothing else is.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	var described, served []string
	for path, item := range readOpenAPI(t).Paths {
		for method := range item {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, r := range new(Server).table() {
		served = append(served, r.pattern)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described:\n%s\nserved:\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
}

// validate holds an answer against what is said of it.
func (a *openAPI) validate(t *testing.T, method, pattern string, resp *http.Response) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	status := "200"
	if resp.StatusCode != http.StatusOK {
		status = "default"
	}
	kind := resp.Header.Get("Content-Type")
	pointer := "/paths/" + escape(pattern) + "/" + strings.ToLower(method) + "/responses/" + status + "/content/" + escape(kind) + "/schema"
	schema, err := a.compiler.Compile(openAPIURL + "#" + pointer)
	if err != nil {
		t.Errorf("%s %s answers %s with %s: %v", method, pattern, resp.Status, kind, err)
		return
	}
	if kind == "application/octet-stream" {
		return
	}
	values := [][]byte{body}
	if kind == "application/x-ndjson" {
		values = bytes.SplitAfter(bytes.TrimSpace(body), []byte("\n"))
	}
	for _, text := range values {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			t.Errorf("%s %s: %s\n%v", method, pattern, text, err)
		}
	}
}

// escape makes a part of a JSON pointer in a URL.
func escape(s string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(s))
}

func TestAnswersAreAsOpenAPISays(t *testing.T) {
	api := readOpenAPI(t)
	h, _ := hostOf(t, "a", "b", "c")
	declared := "name: new\ncommand: [x]\nmemory: 64M:1G\nhealth: {command: [\"true\"]}\nrestart: {policy: always}\n" +
		"lan: {vlan: front, address: 10.1.0.9, publish: '127.0.0.1:8080:80', allow: [{from: web, http: {method: GET}}], egress: [{to: example.org}]}\non_demand: {idle: 1m}\n"
	answers := 0
	for _, call := range []struct {
		method, pattern, path, body string
		status                      int
	}{
		{"GET", "/v1/vms", "/v1/vms", "", 200},
		{"GET", "/v1/vms/{vm}", "/v1/vms/vm", "", 200},
		{"GET", "/v1/vms/{vm}", "/v1/vms/none", "", 404},
		{"GET", "/v1/vms/{vm}/inspect/{what}", "/v1/vms/vm/inspect/nothing", "", 404},
		{"GET", "/v1/host", "/v1/host", "", 200},
		{"GET", "/v1/services", "/v1/services", "", 200},
		{"GET", "/v1/services/{service}", "/v1/services/a", "", 200},
		{"GET", "/v1/services/{service}", "/v1/services/none", "", 404},
		{"PUT", "/v1/services/{service}", "/v1/services/new?base=/", declared, 200},
		{"PUT", "/v1/services/{service}", "/v1/services/new?base=/", "name: [", 400},
		{"POST", "/v1/services/{service}/start", "/v1/services/a/start", "", 200},
		{"POST", "/v1/services/{service}/start", "/v1/services/a/start", "", 409},
		{"POST", "/v1/services/{service}/start", "/v1/services/b/start", "", 200},
		{"POST", "/v1/services/{service}/start", "/v1/services/c/start", "", 409}, // refused
		{"POST", "/v1/services/{service}/start", "/v1/services/c/start?patience=10ms", "", 409},
		{"POST", "/v1/services/{service}/start", "/v1/services/c/start?patience=soon", "", 400},
		{"GET", "/v1/services/{service}/console", "/v1/services/a/console", "", 200},
		{"GET", "/v1/services/{service}/console", "/v1/services/c/console", "", 409},
		{"GET", "/v1/resources", "/v1/resources", "", 200},
		{"GET", "/v1/service-stats", "/v1/service-stats", "", 200},
		{"GET", "/v1/service-stats", "/v1/service-stats?service=none", "", 404},
		{"POST", "/v1/services/{service}/exec", "/v1/services/a/exec", "{}", 400},
		{"POST", "/v1/services/{service}/attach", "/v1/services/a/attach", "", 400},
		{"POST", "/v1/services/{service}/stop", "/v1/services/a/stop?timeout=soon", "", 400},
		{"POST", "/v1/services/{service}/stop", "/v1/services/a/stop?timeout=1s", "", 200},
		{"GET", "/v1/services/{service}/wait", "/v1/services/a/wait", "", 200},
		{"GET", "/v1/services/{service}/logs", "/v1/services/a/logs?lines=5", "", 200},
		{"GET", "/v1/services/{service}/logs", "/v1/services/none/logs", "", 404},
		{"GET", "/v1/service-events", "/v1/service-events", "", 200},
		{"DELETE", "/v1/services/{service}", "/v1/services/new", "", 200},
		{"DELETE", "/v1/services/{service}", "/v1/services/b", "", 409},
	} {
		req, err := http.NewRequestWithContext(t.Context(), call.method, "http://warder"+call.path, strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.client.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != call.status {
			t.Errorf("%s %s: %s, want %d", call.method, call.path, resp.Status, call.status)
		}
		api.validate(t, call.method, call.pattern, resp)
		resp.Body.Close()
		answers++
	}
	if answers == 0 {
		t.Error("nothing was asked")
	}
}

// A server of VMs alone says so in the words of the description.
func TestAnswersWithoutServices(t *testing.T) {
	api := readOpenAPI(t)
	dir := filepath.Join(t.TempDir(), "sockets")
	serve(t, dir, "vm")
	paths, err := socketsOf(dir)
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	c := newClient(paths[0])
	defer c.close()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://warder/v1/services", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	api.validate(t, "GET", "/v1/services", resp)
}

// What the description says of errors and states is what there is.
func TestOpenAPIHasEveryWord(t *testing.T) {
	api := readOpenAPI(t)
	valid := func(schema string, v any) {
		t.Helper()
		s, err := api.compiler.Compile(openAPIURL + "#/components/schemas/" + schema)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		j, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err == nil {
			err = s.Validate(j)
		}
		if err != nil {
			t.Errorf("%s: %s\n%v", schema, b, err)
		}
	}
	for c := range statuses {
		valid("Error", Error{Code: c, Message: "x", Refusal: &verify.Refusal{Resource: "disk /a", Holder: "b"}})
	}
	for _, st := range []services.State{services.Stopped, services.Starting, services.Running, services.Stopping, services.Waiting, services.Ended, services.Failed} {
		valid("Event", hosting.Event{State: st})
	}
	valid("Exec", Exec{Command: proto.Command{Args: []string{"sh"}, TTY: true, Cols: 1}, Stdin: true})
}
