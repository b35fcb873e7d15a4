package strictyaml

// OneOrMore is written as one value, or as a list of them.
type OneOrMore []string

// UnmarshalText takes one value.
func (o *OneOrMore) UnmarshalText(text []byte) error {
	*o = OneOrMore{string(text)}
	return nil
}
