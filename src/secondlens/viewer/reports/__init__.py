"""Reports: what analyses and studies found, as files that people read: tables, pictures, pages."""
