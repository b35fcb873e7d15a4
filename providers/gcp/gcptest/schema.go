package gcptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strconv"
)

// schema is a JSON schema as discovery documents write it (an old draft).
type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Enum                 []string           `json:"enum"`
	Pattern              string             `json:"pattern"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	// Of parameters only.
	Location string `json:"location"`
	Required bool   `json:"required"`
	Repeated bool   `json:"repeated"`
}

// checker gathers everything that is wrong.
type checker struct {
	document *Document
	errs     []error
}

func (c *checker) fail(at, rule string) { c.errs = append(c.errs, fmt.Errorf("%s: %s", at, rule)) }

func (c *checker) err() error { return errors.Join(c.errs...) }

// body checks a whole body; no schema means that there is none.
func (c *checker) body(data []byte, s *schema) {
	if s == nil {
		if len(bytes.TrimSpace(data)) > 0 {
			c.fail("body", "must be empty")
		}
		return
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		c.fail("body", "is not JSON: "+err.Error())
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		c.fail("body", "has something after its end")
	}
	c.value("body", v, s)
}

func (c *checker) value(at string, v any, s *schema) {
	if s.Ref != "" {
		target, ok := c.document.schemas[s.Ref]
		if !ok {
			c.fail(at, "is of an unknown schema "+s.Ref)
			return
		}
		c.value(at, v, target)
		return
	}
	switch s.Type {
	case "object":
		c.object(at, v, s)
	case "array":
		items, ok := v.([]any)
		if !ok {
			c.fail(at, fmt.Sprintf("must be an array, is %T", v))
			return
		}
		for i, item := range items {
			c.value(fmt.Sprintf("%s[%d]", at, i), item, s.Items)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			c.fail(at, fmt.Sprintf("must be a boolean, is %T", v))
		}
	case "integer", "number":
		n, ok := v.(json.Number)
		if !ok {
			c.fail(at, fmt.Sprintf("must be a number, is %T", v))
			return
		}
		c.number(at, n.String(), s)
	case "string":
		text, ok := v.(string)
		if !ok {
			c.fail(at, fmt.Sprintf("must be a string, is %T", v))
			return
		}
		c.text(at, text, s)
	case "any":
	default:
		c.fail(at, "has a schema of the unknown type "+s.Type)
	}
}

func (c *checker) object(at string, v any, s *schema) {
	fields, ok := v.(map[string]any)
	if !ok {
		c.fail(at, fmt.Sprintf("must be an object, is %T", v))
		return
	}
	for name, field := range fields {
		switch property, known := s.Properties[name]; {
		case known:
			c.value(at+"."+name, field, property)
		case s.AdditionalProperties != nil:
			c.value(at+"."+name, field, s.AdditionalProperties)
		default:
			c.fail(at+"."+name, "is no field there")
		}
	}
}

// text checks a string, which is also how parameters and 64-bit numbers are
// written.
func (c *checker) text(at, text string, s *schema) {
	switch s.Type {
	case "integer", "number":
		c.number(at, text, s)
		return
	case "boolean":
		if text != "true" && text != "false" {
			c.fail(at, fmt.Sprintf("must be true or false, is %q", text))
		}
		return
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
		c.fail(at, fmt.Sprintf("must be one of %q, is %q", s.Enum, text))
	}
	if s.Pattern != "" {
		if p, err := regexp.Compile(s.Pattern); err != nil || !p.MatchString(text) {
			c.fail(at, fmt.Sprintf("must match %q, is %q (%v)", s.Pattern, text, err))
		}
	}
	switch s.Format {
	case "int64", "uint64":
		c.number(at, text, &schema{Type: "integer", Format: s.Format})
	}
}

func (c *checker) number(at, text string, s *schema) {
	if s.Type == "number" {
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			c.fail(at, fmt.Sprintf("must be a number, is %q", text))
		}
		return
	}
	n, ok := new(big.Int).SetString(text, 10)
	bits, unsigned := 64, false
	switch s.Format {
	case "int32":
		bits = 32
	case "uint32":
		bits, unsigned = 32, true
	case "uint64":
		unsigned = true
	}
	if !ok || (unsigned && (n.Sign() < 0 || n.BitLen() > bits)) || (!unsigned && n.BitLen() > bits-1) {
		c.fail(at, fmt.Sprintf("must be a whole number of format %q, is %q", s.Format, text))
	}
}
