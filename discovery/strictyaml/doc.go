// Package strictyaml decodes YAML that people wrote: unknown and repeated keys
// are errors, every problem of a document is reported at once, and each names
// the file, the line, the field, the value and the rule.
//
// A Document also remembers where each field stands, so that problems found
// later, by a validation that knows nothing of YAML, get their place too.
package strictyaml
